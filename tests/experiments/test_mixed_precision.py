"""float32 against bfloat16: a few steps of a tiny net in both."""

import json

import pytest

from experiments.mixed_precision.run import DTYPES, main
from vgg_jax.errors import UserError
from vgg_jax.runs.tables import read_table

TINY = [
    "--config.data.image_size=8",
    "--config.model.stages=('3-4','3-8')",
    "--config.model.head=linear",
    "--config.data.batch_size=16",
    "--config.eval.batch_size=100",
    "--config.steps=2",
]


@pytest.fixture(autouse=True)
def _in_project_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_trains_in_both_and_redraws(tmp_path):
    assert main(["--seeds=1", *TINY, f"--out={tmp_path}"]) == 0
    rows = read_table(tmp_path / "accuracy.csv")
    assert rows["compute_dtype"].tolist() == [*DTYPES]
    assert set(rows["examples"].tolist()) == {"359"}
    assert set(rows["steps"].tolist()) == {"2"}
    losses = rows["loss"].astype(float)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    table = (tmp_path / "accuracy.md").read_text()
    for dtype, top1 in zip(DTYPES, rows["top1"].astype(float), strict=True):
        cells = " | ".join([f"{top1:.2%}"] * 3)
        assert f"| {dtype} | {cells} | 1 |" in table
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["overrides"][-len(TINY) :] == TINY

    (tmp_path / "accuracy.md").unlink()
    assert main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "accuracy.md").read_text() == table


def test_redrawing_refuses_a_change_of_the_config(tmp_path):
    with pytest.raises(UserError, match="unrecognized arguments"):
        main(["--redraw", "--config.steps=2", f"--out={tmp_path}"])
