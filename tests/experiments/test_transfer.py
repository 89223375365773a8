"""The transfer experiment: what its runs start from, what they see, and its table."""

import json

import numpy as np
import pytest

from experiments.transfer import run
from experiments.transfer.run import STARTS, main, save_arrays, tuning_config, write_table
from tests.evaluation.nets import tiny_weights
from vgg_jax.data.arrays import Subset, open_digits
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError
from vgg_jax.weights.store import save_weights


@pytest.mark.parametrize("start", STARTS)
def test_runs_differ_in_their_start_and_see_the_same(start, tmp_path, pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)
    save_weights(tmp_path / "net.safetensors", tiny_weights())
    digits = Subset(open_digits("train"), np.arange(12))
    save_arrays(tmp_path / "digits.npz", digits, digits)
    config = tuning_config("digits", start, tmp_path / "net.safetensors", tmp_path / "digits.npz")
    assert (config.init.weights is None) == (start == "random") == (not config.optimizer.frozen)
    assert config.data.channel_order == "BGR"
    seen = open_source(config.data, config.data.train_split)
    assert seen.class_names == digits.class_names
    for index in range(len(digits)):
        np.testing.assert_array_equal(seen[index]["image"], digits[index]["image"])
        assert seen[index]["label"] == digits[index]["label"]


def test_table_has_a_row_for_each_number_of_images(tmp_path):
    draws = [(1, 0.5), (1, 0.25), (5, 0.75)]
    rows = [{"images_per_class": count, "top1": top1} for count, top1 in draws]
    path = tmp_path / "probe-digits-pool4-64-published.json"
    path.write_text(json.dumps({"rows": rows}))
    write_table(tmp_path)
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == [
        "| digits | probe, pool4, 64 pixels | 1 | 37.5% (25.0 to 50.0) |  |",
        "| digits | probe, pool4, 64 pixels | 5 | 75.0% |  |",
    ]


def test_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="or --redraw"):
        main([f"--out={tmp_path}"])


def test_what_is_stored_is_not_measured_again(tmp_path, monkeypatch):
    name = "probe-digits-pool4-64-published"
    calls = []

    def measure():
        calls.append(name)
        return [{"images_per_class": 1, "top1": 0.5}]

    monkeypatch.setattr(run, "cells", lambda weights, data_dir: [(name, measure)])
    for _ in range(2):
        assert main(["--weights=w", "--data_dir=d", f"--out={tmp_path}"]) == 0
    assert calls == [name]
    stored = json.loads((tmp_path / f"{name}.json").read_text())
    assert stored["command"].startswith("python -m experiments.transfer.run")
    assert "50.0%" in (tmp_path / "table.md").read_text()
