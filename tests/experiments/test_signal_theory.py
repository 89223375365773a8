"""The parts at their smallest, against theory where they are exact; stored tables are redrawn."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.signal_theory import run, spectra, tables
from experiments.signal_theory.matrix_tables import values_of
from experiments.signal_theory.parts import PARTS
from experiments.signal_theory.presets import Preset
from vgg_jax.runs.tables import read_table

STORED = Path(run.__file__).parent / "results" / "full"
TINY = Preset(
    length_variances=(0.8,),
    relu_variances=(2.0,),
    wide=(32,),
    nets=3,
    relu_layers=24,
    trained_variances=(1.2, 2.0),
    trained_depths=(2, 4),
    trained_width=16,
    trained_seeds=2,
    rates=(0.001, 0.01),
    steps=20,
    gain_nets=("16 x 4",),
    gain_seeds=20,
    edge_widths=(32,),
    edge_layers=(1, 2),
    spread_layers=(2,),
    spread_width=32,
    stack_width=0.0625,
    matrix_seeds=2,
)


def test_measures_once_and_redraws(tmp_path, monkeypatch):
    kept = "linear, delta-orthogonal"
    monkeypatch.setitem(run.PRESETS, "quick", TINY)
    monkeypatch.setattr(spectra, "STACKS", {kept: spectra.STACKS[kept]})
    squares = ("ReLU, He", "linear, orthogonal")
    monkeypatch.setattr(spectra, "SQUARES", {name: spectra.SQUARES[name] for name in squares})
    monkeypatch.setattr(spectra, "STACK", ("3-64 x2, 3-128",))
    monkeypatch.setitem(spectra.SQUARES, "linear, Gaussian", ("he_fan_in", "linear", "none"))
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    stack = read_table(tmp_path / "stack.csv")
    assert np.all(values_of(stack, "farthest_from_one", net=kept) < 1e-5)
    spread = read_table(tmp_path / "spread.csv.gz")
    assert np.all(values_of(spread, "relative_variance", net="linear, orthogonal") < 1e-5)
    assert np.all(values_of(spread, "relative_variance", net="ReLU, He") > 1)
    runs = read_table(tmp_path / "training.csv")
    assert len(runs["loss"]) == 2 * 2 * 3
    assert np.all(runs["accuracy"].astype(float) <= 1)
    text = (tmp_path / "table.md").read_text()
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == ["depth_scales.png", "log_normal.png", "singular_values.png"]
    (tmp_path / "table.md").unlink()

    monkeypatch.setattr(run, "write_table", pytest.fail)
    run.measure(TINY, [*PARTS], tmp_path, None)  # nothing is left to measure
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == text


def test_redraws_its_stored_table(tmp_path):
    out = tmp_path / "full"
    shutil.copytree(STORED, out, ignore=shutil.ignore_patterns("*.png", "*.md"))
    assert run.main(["--redraw", "--preset=full", f"--out={out}"]) == 0
    assert (out / "table.md").read_text() == (STORED / "table.md").read_text()


def test_depth_that_trains_is_interpolated():
    depths = ["8", "16", "32"]
    assert tables.deepest_trained(depths, np.array([0.9, 0.7, 0.3])) == pytest.approx(24)
    assert tables.deepest_trained(depths, np.array([0.9, 0.8, 0.7])) == np.inf
    assert tables.deepest_trained(depths, np.array([0.4, 0.8, 0.7])) == 0


def test_local_length_of_a_power_is_in_proportion_to_the_layer():
    layers = np.arange(1, 100.0)
    assert tables.local_lengths(layers**-2, 50) == pytest.approx(25, rel=0.05)
    assert tables.local_lengths(np.exp(-layers / 7), 50) == pytest.approx(7)
