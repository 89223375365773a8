"""The paper's start at two input scales, shortened: trained once, resumed, redrawn."""

import dataclasses

import numpy as np
import pytest

from experiments.input_scale import report, run, train
from experiments.trainability.cells import load
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table, select

SHORT = {"width": 1 / 32, "steps": 2, "batch_size": 8}


def test_trains_once_and_redraws(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "A", ("3-64", "3-128"))
    preset = run.Preset(
        nets=("A",),
        stds=(0.01, 0.1),
        products=(0.03, 3.0),
        starts=(("A", 0.01, True), ("A", 0.01, False)),
        scales=(1.0, 2.0),
        rates=(0.1,),
        seeds=1,
        **SHORT,
    )
    run.measure(dataclasses.replace(preset, stds=(0.01,)), tmp_path)  # as if it had been stopped
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    arguments = ["--preset=quick", f"--out={tmp_path}"]
    assert run.main(arguments) == 0
    table = read_table(tmp_path / report.RUNS)
    assert len(table["std"]) == 2 * 2 * 2
    rate = table["learning_rate"].astype(float) * table["scale"].astype(float) ** 2
    np.testing.assert_allclose(rate, table["product"].astype(float), rtol=1e-3)
    # Logits near zero: a net with biases of zero is linear in its images, and so are gradients.
    small, large = (
        select(table, std="0.01", scale=scale)["gradient_norm"].astype(float)
        for scale in ("1", "58")
    )
    np.testing.assert_allclose(large / small, 58, rtol=1e-2)
    assert len(read_table(tmp_path / report.RATES)["std"]) == 2 * 2
    text = (tmp_path / "table.md").read_text()
    (tmp_path / "table.md").unlink()

    monkeypatch.setattr(run, "train", pytest.fail)
    run.measure(preset, tmp_path)  # nothing is left to train
    assert run.main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "input_scale.png").stat().st_size > 2_000


def test_without_biases_kernels_move_alike_at_equal_rate_times_scale(monkeypatch):
    """Logits near zero: the softmax's error is the same, and gradients are linear in the scale."""
    monkeypatch.setitem(VARIANTS, "A", ("3-64", "3-128"))
    network = train.network("A", "none", 1 / 32)
    batches, _ = load(2, 8, 0)
    first = train.start("A", 0.01, 0, 1 / 32, batches[0]["image"])
    ends = {}
    for optimizer, scale in ((train.kernels_only, 1), (train.kernels_only, 4), (train.momentum, 4)):
        scaled = [batch | {"image": scale * batch["image"]} for batch in batches]
        variables, _ = train.programs(network, optimizer)[0](first, 0.1 / scale, scaled)
        ends[optimizer, scale] = variables["params"]
    assert not any(np.any(layer["bias"]) for layer in ends[train.kernels_only, 4].values())
    assert np.any(ends[train.momentum, 4]["fc8"]["bias"])
    for layer, one in ends[train.kernels_only, 1].items():
        moved = np.asarray(one["kernel"] - first["params"][layer]["kernel"])
        other = np.asarray(ends[train.kernels_only, 4][layer]["kernel"])
        assert np.any(moved)
        np.testing.assert_allclose(
            other - first["params"][layer]["kernel"], moved, atol=0.02 * np.abs(moved).max()
        )


def test_the_start_has_the_forward_gain_of_the_full_width():
    batches, _ = load(2, 8, 0)
    params = train.start("A", 0.03, 0, 1 / 4, batches[0]["image"])["params"]
    assert np.std(params["conv1_1"]["kernel"]) == pytest.approx(0.03, rel=0.1)
    assert np.std(params["conv4_1"]["kernel"]) == pytest.approx(0.06, rel=0.02)
    assert not any(np.any(layer["bias"]) for layer in params.values())


def table(**columns):
    """Returns runs as they are read: net A of deviation 0.03, with the given columns."""
    count = len(columns["accuracy"])
    constant = {"net": "A", "biases": "True", "std": "0.03", "product": "0.03", "scale": "1"}
    constant |= {"learning_rate": "0.1", "gradient_norm": "1"}
    made = {name: np.full(count, value) for name, value in constant.items()}
    return report.numbers(made | {"seed": np.zeros(count, int)} | columns)


def test_collapse_counts_pairs_of_equal_product():
    runs = table(
        accuracy=np.array([0.9, 0.1, 0.9, 0.1, 0.1, 0.9]),
        product=np.array(["0.3", "3", "30"] * 2),
        scale=np.array(["58"] * 3 + ["1"] * 3),
    )
    wanted = "| deviation 0.03 | 3 | 2 | 1 | 0 | 1 |"
    assert wanted in report.collapse(runs).splitlines()
    with_best = report.best_cell(select(runs, scale=58.0, product=0.3))
    assert with_best == "90% (0.1), 1 of 1"


def test_windows_are_per_seed():
    rates = table(
        accuracy=np.array([0.1, 0.9, 0.6, 0.1] + [0.9, 0.9, 0.1, 0.1] + [0.1] * 4),
        learning_rate=np.array(["0.001", "0.01", "0.1", "1"] * 3),
        seed=np.repeat([0, 1, 2], 4),
    )
    found = report.edges(rates, 1.0)
    wanted = [[0.01, 0.001, np.nan], [0.03] * 3, [0.1, 0.01, np.nan]]
    np.testing.assert_allclose(found, wanted)
    assert report.span(found[0]) == "0.0032 (0.001 to 0.01)"
    assert report.span(found[0, 2:]) == "-"
    assert "| A, deviation 0.03 | 1 | 2 of 3 |" in report.windows(rates)


def test_the_smallest_rate_is_predicted_from_the_first_gradient():
    rates = table(accuracy=np.array([0.9]), learning_rate=np.array(["0.1"]))
    runs = table(
        accuracy=np.array([0.1, 0.1, 0.9]),
        scale=np.array(["1", "58", "58"]),
        gradient_norm=np.array(["0.1", "5.8", "5.8"]),
        learning_rate=np.array(["1", "0.02", "0.2"]),
    )
    one, other = report.needed(runs, rates).splitlines()[2:]
    assert one == "| A | 1 | 1; - |"  # a tenth of the gradient wants ten times the rate
    assert other == "| A | 58 | 0.02; 0.2 |"
