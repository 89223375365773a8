"""Shattered gradients: the command line at a tiny size, resumed and redrawn."""

import json

import numpy as np
import pytest

from experiments.shattered_gradients import measure, nets, readout, report, run
from experiments.shattered_gradients.cells import DENSE, KINDS, LINE, PRESETS, Cell, Preset
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table, select


def test_measures_once_and_redraws(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "A", ("3-64",))
    for module, name, value in (
        (nets, "LOGITS", 4),
        (measure, "VGG_INPUTS", 4),
        (measure, "DENSE_INPUTS", 16),
        (measure, "REFERENCE", {True: 64, False: 8}),
        (measure, "POSITIONS", np.linspace(-2, 2, 128)),
        (report, "POSITIONS", np.linspace(-2, 2, 128)),
        (readout, "ROWS", 1),
        (readout, "DEPTH", 2),
        (readout, "WIDTH", 32),
        (readout, "BATCH", 16),
    ):
        monkeypatch.setattr(module, name, value)
    cells = (
        Cell(DENSE, "plain", "0.5", "64"),
        Cell(DENSE, "residual + batch norm", "0", "64"),
        Cell(DENSE, "batch norm", LINE, "64"),
        Cell("A", "batch norm", "0.8", "0.125", "max"),
    )
    for known in (cells[:2], cells):
        monkeypatch.setitem(run.PRESETS, "quick", Preset(known, (1, 2), (1,), 3, 2))
        assert run.main([f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out.count("dense 64, plain") == 1
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["cells"], [before["cells"] for before in record["earlier"]]) == (2, [3])

    table = read_table(tmp_path / report.TABLE)
    plain = select(table, net=DENSE, kind="plain", depth=1)["value"]
    assert len(plain) == 3
    assert np.mean(plain) == pytest.approx(2 / 3, abs=0.05)
    assert len(select(table, inputs=LINE)["value"]) == 3 * len(report.LAGS)
    assert len(select(table, net="A")["value"]) == 2
    sizes = read_table(tmp_path / report.READOUT)
    zero = select(sizes, gradient=readout.SUM)["rms"].astype(float)
    assert np.all(zero < 1e-5)
    assert np.all(select(sizes, gradient=readout.OWN)["rms"].astype(float) > 0.5)

    text = (tmp_path / "table.md").read_text()
    assert "| plain | 1 | 64 | 0.5 | 1 | 0." in text
    (tmp_path / "table.md").unlink()
    (tmp_path / "coherence.png").unlink()
    assert run.main([f"--out={tmp_path}", "--redraw"]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "coherence.png").exists()


def test_full_measures_every_kind_at_every_input():
    dense = [cell for cell in PRESETS["full"].cells if (cell.net, cell.beta) == (DENSE, "1")]
    pairs = {(cell.kind, cell.inputs) for cell in dense if cell.width == "512"}
    assert pairs == {(kind, c) for kind in KINDS for c in ("0", "0.5", "0.8", "0.95", LINE)}
