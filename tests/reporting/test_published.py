"""Published figures: each with its source, and only beside nets that they are of."""

import pytest

from vgg_jax.reporting.published import published_cifar, read_published

CONFIG = {
    "model.variant": "D",
    "model.norm": "batch",
    "model.stages": None,
    "data.name": "cifar10",
    "data.source": "npz",
}


def test_every_figure_has_a_source_and_a_protocol_and_is_a_number():
    rows = read_published("cifar")
    assert len(rows) == 24
    for row in rows:
        assert None not in row.values()
        assert all(row.values()), row
        assert row["source"].count("/") == 1  # owner/repository
        assert row["measure"] in ("best", "model")
        assert row["dataset"] in ("cifar10", "cifar100")
        assert row["norm"] in ("none", "batch")
        low, high = {"cifar10": (90, 96), "cifar100": (65, 76)}[row["dataset"]]
        assert low < float(row["top1"]) < high
        assert len(row["top1"].partition(".")[2]) == 2  # as published, to the hundredth


def test_no_figure_is_there_twice():
    key = ("dataset", "net", "norm", "source")
    keys = [tuple(row[name] for name in key) for row in read_published("cifar")]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("variant", ["D", "vgg16"])
def test_a_net_has_its_figures_by_either_name(variant):
    figures = published_cifar(CONFIG | {"model.variant": variant})
    assert [row["top1"] for row in figures] == ["93.86", "94.16", "94.00"]


def test_a_narrowed_net_has_those_of_the_full_one():
    assert published_cifar(CONFIG | {"model.width": 0.25}) == published_cifar(CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"model.stages": ("3-64",)},
        {"data.source": "folder"},
        {"data.name": "digits"},
        {"model.variant": "C"},
        {"data.name": "cifar100", "model.norm": "none"},
    ],
)
def test_other_nets_and_data_have_none(change):
    assert published_cifar(CONFIG | change) == []
