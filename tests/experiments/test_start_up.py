"""The time to the first step: a tiny net, started twice."""

import json

import pytest

from experiments.start_up import run

NAME = "a tiny net"


def test_starts_twice_and_redraws(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    tiny = ["--config=configs/vgg16.py:digits", "--config.model.stages=('3-4','3-4')"]
    tiny += ["--config.data.image_size=8", "--config.model.head=linear"]
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # programs for one device compile sooner
    monkeypatch.setitem(run.RUNS, "quick", {NAME: tiny})
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    seconds = json.loads((tmp_path / "start_up.json").read_text())[NAME]
    assert {start: len(took) for start, took in seconds.items()} == {"first": 1, "second": 1}
    record = json.loads((tmp_path / "record.json").read_text())
    for (took,) in seconds.values():
        assert 0 < took <= record["wall_seconds"] + 1  # rounded
    table = (tmp_path / "table.md").read_text()
    cells = [f"{took:.1f} ({took:.1f} to {took:.1f})" for (took,) in seconds.values()]
    assert table.splitlines()[2:] == [f"| {NAME} | {' | '.join(cells)} |"]

    (tmp_path / "table.md").unlink()
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == table


@pytest.mark.parametrize("preset", run.RUNS)
def test_presets_have_rounds(preset):
    assert run.ROUNDS[preset] >= 1
