"""The README's first commands: one at a tiny size."""

import json

import pytest

from experiments.first_runs import run
from tests.short_runs import TINY
from vgg_jax.errors import UserError


def test_keeps_what_a_run_measured_and_redraws(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    arguments = [argument for argument in TINY if "steps" not in argument]
    arguments += ["--config.steps=2", "--config.log.every_steps=1"]
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # programs for one device compile sooner
    monkeypatch.setitem(run.RUNS, "digits", arguments)
    assert run.main(["digits", f"--out={tmp_path}"]) == 0
    kept = tmp_path / "digits"
    assert {path.name for path in kept.iterdir()} == {
        "machine.json",
        "metrics.jsonl",
        "summary.json",
    }
    summary = json.loads((kept / "summary.json").read_text())
    assert summary["command"].startswith("python -m vgg_jax.train --config=")
    assert "--workdir" not in summary["command"]
    table = (tmp_path / "table.md").read_text()
    assert f"| digits | {summary['metrics']['eval/top1']:.2%} | 359 (test, " in table

    for word in ("table", "--redraw"):
        (tmp_path / "table.md").unlink()
        (tmp_path / "learning_curves.png").unlink()
        assert run.main([word, f"--out={tmp_path}"]) == 0
        assert (tmp_path / "table.md").read_text() == table
        assert (tmp_path / "learning_curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "give the run to make"), (["photos"], "--data_dir=DIR")]
)
def test_says_what_is_missing(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run.main([*arguments, f"--out={tmp_path}"])
