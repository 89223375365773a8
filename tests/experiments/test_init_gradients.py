"""Gradients at initialisation: the command line at a tiny size, and what the tables say."""

import dataclasses
import json

import pytest

from experiments.init_gradients import run as init_gradients
from experiments.init_gradients import sgd
from experiments.init_gradients.grid import (
    PRESETS,
    QUANTITIES,
    WIDE_STAGES,
    Cell,
    every_cell,
    full_cells,
)
from experiments.init_gradients.measure import _drawn, compiled_probe, measure_cell
from experiments.init_gradients.tables import theory
from vgg_jax.errors import UserError
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table, select, write_table


def test_resumes_and_redraws(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(WIDE_STAGES, "wide-20", ("1-8 x12",))
    cells = [Cell("wide-20", "he_fan_in", "batch", "relu", "none", "noise-2px", n) for n in (2, 4)]
    arguments = [f"--out={tmp_path}"]
    for known in (cells[:1], cells):
        quick = dataclasses.replace(PRESETS["quick"], cells=lambda real, known=known: known)
        monkeypatch.setitem(PRESETS, "quick", quick)
        assert init_gradients.main(arguments) == 0
    assert "2 cells, 1 of them stored" in capsys.readouterr().out
    table = read_table(tmp_path / "measurements.csv.gz")
    rows = select(table, quantity="activation_grad_rms", layer="conv1_12")
    assert sorted(rows["batch_size"].tolist()) == [2] * 3 + [4] * 3
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["command"] == "python -m experiments.init_gradients.run --out=OUT"
    assert (record["cells"], [before["cells"] for before in record["earlier"]]) == (1, [1])
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.md")}
    assert set(made) == {"decay.md", "comparisons.md", "batch_norm_growth.md"}
    for name in made:
        (tmp_path / name).unlink()
    assert init_gradients.main(["--redraw", *arguments]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.md")} == made


def test_agreement_leaves_out_what_float32_does_not_hold(tmp_path):
    layers = len(theory(("A", "paper", "none", "relu", "max", "noise", 16)).gradient_rms)
    rows = [
        {"net": "A", "init": init, "norm": "none", "activation": "relu", "pooling": "max"}
        | {"data": "noise", "batch_size": 16, "seed": seed, "step": 0, "layer": str(depth)}
        | {"depth": depth, "quantity": "activation_grad_rms", "value": value(depth)}
        for init, value in {
            "paper": lambda depth: 2.0**-depth,
            "lecun": lambda depth: 0.0 if depth == 1 else 1.0,
            "he_fan_in": lambda depth: float("inf"),
        }.items()
        for seed in range(3)
        for depth in range(1, layers + 2)
    ]
    write_table(tmp_path / "measurements.csv.gz", rows)
    assert init_gradients.main(["figures", f"--out={tmp_path}"]) == 0
    last = (tmp_path / "agreement.md").read_text().splitlines()[-1]
    predicted = theory(("A", "paper", "none", "relu", "max", "noise", 16)).backward
    ratio = f"{2.0 ** (layers - 1) / predicted:.3g}"
    wanted = (
        f"| none | relu | max | noise | 1 | 2 | {ratio} | A paper | {ratio} | {ratio} | A paper |"
    )
    assert last == wanted
    decays = (tmp_path / "decay.md").read_text()
    assert "overflow" in decays
    assert "underflow" in decays


def test_steps_of_sgd(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", ("3-8", "3-8"))
    descent = sgd.Descent("tiny", "he_fan_in", "batch", "none", 1.0, (0.0, 0.1), 2, (0, 1), 8)
    monkeypatch.setattr(sgd, "QUESTIONS", (descent,))
    assert init_gradients.main(["sgd", f"--out={tmp_path}"]) == 0
    table = select(read_table(tmp_path / "sgd" / "after_sgd.csv.gz"), seed=0, quantity="loss")
    keys = zip(table["learning_rate"].tolist(), table["step"].tolist(), strict=True)
    losses = dict(zip(keys, table["value"].tolist(), strict=True))
    assert losses["0", 0] == losses["0.1", 0]
    assert losses["0", 1] != losses["0.1", 1]
    assert (tmp_path / "sgd" / "after_sgd.png").exists()


def test_everything_is_the_whole_cross_with_the_cells_of_full():
    full, cells = full_cells("cifar10"), every_cell("cifar10")
    assert len(cells) == len(set(cells)) == 8 * 8 * 2 * 3 * 3 * 2
    others = {cell.net for cell in full if cell not in cells}
    assert others == {*WIDE_STAGES, "C", "D"}  # the wide networks, and two at 224 pixels


def test_cells_in_any_order_measure_the_same(monkeypatch):
    """Weights and programs are kept from cell to cell."""
    monkeypatch.setitem(VARIANTS, "tiny", ("3-8",))
    cells = [
        Cell("tiny", init, norm, activation, pooling, "noise", 4)
        for init in ("orthogonal", "lsuv")
        for norm in ("none", "batch")
        for activation in ("relu", "tanh")
        for pooling in ("max", "average")
    ]

    def measured(order):
        return {cell: measure_cell(cell, range(2), None, QUANTITIES) for cell in order}

    kept = measured(cells)
    for cache in (compiled_probe, _drawn):
        cache.cache_clear()
    assert measured(reversed(cells)) == kept
    values = [tuple(row["value"] for row in rows) for rows in kept.values()]
    assert len(set(values)) == len(cells)


def test_nets_are_chosen_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "tiny", ("3-8", "3-8"))
    cells = [Cell(net, "paper", "none", "relu", "none", "noise", 2) for net in ("tiny", "E")]
    quick = dataclasses.replace(PRESETS["quick"], cells=lambda real: cells)
    monkeypatch.setitem(PRESETS, "quick", quick)
    with pytest.raises(UserError, match=r"unknown net of this preset 'tyni'\. Did you mean 'tiny'"):
        init_gradients.main([f"--out={tmp_path}", "--nets=tyni"])
    assert init_gradients.main([f"--out={tmp_path}", "--nets=tiny"]) == 0
    table = read_table(tmp_path / "measurements.csv.gz")
    assert set(table["net"].tolist()) == {"tiny"}


def test_nothing_to_redraw(tmp_path):
    with pytest.raises(UserError, match="run without --redraw first"):
        init_gradients.main(["figures", f"--out={tmp_path / 'empty'}"])
