"""Receptive fields at their smallest: what theory says is stored beside what is measured."""

import dataclasses
import shutil

import numpy as np
import pytest

from experiments.receptive_field import maps, presets, run, tables, training
from vgg_jax.errors import UserError
from vgg_jax.runs.tables import read_table, select

PAIR = presets.Pair(("two", "one"), (("3-16 x2",), ("5-16, LRN",)))
TINY = dataclasses.replace(
    presets.PRESETS["quick"],
    seeds=2,
    width=0.5,
    steps=2,
    timed=(2, 1),
    nets=(),
    pairs=("5x5",),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    monkeypatch.setitem(presets.PRESETS, "quick", TINY)
    monkeypatch.setitem(presets.PAIRS, "5x5", PAIR)
    monkeypatch.setattr(maps, "STACKS", {7: ("3-64 x3", "7-64")})


def test_measures_once_and_redraws(tmp_path, monkeypatch):
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0

    costs = read_table(tmp_path / tables.COSTS)
    assert costs["parameters_over_c2"].tolist() == costs["macs_over_c2"].tolist() == ["27", "49"]

    start = read_table(tmp_path / tables.START)
    for stack, variance in (("3-64 x3", 2), ("7-64", 4)):
        rows = select(start, net=stack)
        np.testing.assert_allclose(rows["predicted"].astype(float), variance**0.5, rtol=1e-4)
        np.testing.assert_allclose(rows["squared"].astype(float), variance**0.5, rtol=0.1)
        assert set(rows["field"].tolist()) == {"7"}

    trained = read_table(tmp_path / tables.TRAINING)
    assert trained["budget"].tolist() == [
        budget for budget in ("first", *presets.BUDGETS) for _ in range(2)
    ]
    sizes = {
        budget: int(select(trained, budget=budget)["parameters"][0])
        for budget in ("first", *PAIR.budgets)
    }
    # 3 -> 8 -> 8 channels and 16 x 16 x 8 inputs of the classifier, or 3 -> 8.
    head = 16 * 16 * 8 * 10 + 10
    assert sizes["first"] == 27 * 8 + 8 + 9 * 64 + 8 + head
    assert sizes["equal width"] == sizes["equal time"] == 75 * 8 + 8 + head
    variations = select(trained, net="one")["lrn_variation"].astype(float)
    assert np.all(variations > 0)
    assert np.all(np.isnan(select(trained, net="two")["lrn_variation"].astype(float)))
    assert np.all(trained["before"].astype(float) != trained["after"].astype(float))

    written = {name: (tmp_path / name).read_bytes() for name in ("table.md", tables.TRAINING)}
    (tmp_path / "table.md").unlink()
    monkeypatch.setattr(training, "Network", pytest.fail)
    monkeypatch.setattr(maps, "at_initialisation", pytest.fail)
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    assert run.main(["--redraw", "--preset=quick", f"--out={tmp_path}"]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in written} == written
    assert (tmp_path / "receptive_field.png").stat().st_size > 2_000


def test_redraws_its_stored_table(tmp_path, pytestconfig):
    results = pytestconfig.rootpath / "experiments/receptive_field/results/full"
    shutil.copytree(results, tmp_path, ignore=shutil.ignore_patterns("*.png"), dirs_exist_ok=True)
    (tmp_path / "table.md").unlink()
    assert run.main(["--redraw", "--preset=full", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == (results / "table.md").read_text()


def test_a_seed_decides_everything():
    network = training.Network(training.network_config(PAIR, PAIR.stages[1], 0.5, TINY, None), TINY)
    first, again, other = (network.train(seed, 2) for seed in (0, 0, 1))
    assert first == again
    assert first["loss"] != other["loss"]


@pytest.mark.parametrize("channels", [16, 40])
def test_widths_of_equal_parameters(channels):
    """The nearest that a whole number of channels allows."""
    pair = presets.PAIRS["5x5"]
    stages = (f"5-{channels}",)
    target = 9 * channels * 40
    width = training.same_parameters(pair, stages, target, TINY, None)

    def parameters(width):
        config = training.network_config(pair, stages, width, TINY, None)
        return training.Network(config, TINY).describe()["parameters"]

    step = 1 / channels
    found = abs(parameters(width) - target)
    assert all(
        found <= abs(parameters(near) - target)
        for near in (width - step, width + step)
        if 0 < near <= 0.5
    )


def test_half_of_what_the_trained_network_needs(tmp_path):
    with pytest.raises(UserError, match="go together"):
        run.main(["--weights=net.safetensors", f"--out={tmp_path}"])


def test_images_are_continued_by_their_mirror_images():
    images = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    wide = maps.mirrored(images, 10)
    assert wide.shape == (2, 10, 10, 3)
    np.testing.assert_array_equal(wide[:, 3:7, 3:7], images)
    np.testing.assert_array_equal(wide[:, 2, 3:7], images[:, 0])
    np.testing.assert_array_equal(wide[:, 3:7, 7], images[:, :, 3])
    np.testing.assert_array_equal(maps.mirrored(images, 3), images)
