"""The CIFAR tables: which runs they need, and the lines made of those that are there."""

import json
import shutil
from pathlib import Path

import pytest

from experiments.cifar_tables.run import RESULTS, SWEEPS, main, table_lines, write_tables
from vgg_jax.config import load_config, override_arguments
from vgg_jax.sweeping.trials import load_trials


@pytest.fixture(autouse=True)
def _in_project_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


def finish(workdir: Path, top1: list[float]) -> None:
    workdir.mkdir()
    lines = [{"step": step, "eval/top1": value} for step, value in enumerate(top1, 1)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = f"python -m vgg_jax.train --workdir={workdir}"
    summary = {"exit_reason": "finished", "wall_seconds": 60.0, "command": command}
    (workdir / "summary.json").write_text(json.dumps(summary))


def store_config(trial) -> None:
    config = load_config(trial.config, override_arguments(trial.overrides))
    (trial.workdir / "config.json").write_text(config.to_json_best_effort())


@pytest.mark.parametrize(
    ("preset", "nets", "seeds"), [("full", 16, 3), ("short", 8, 3), ("quick", 8, 2)]
)
def test_every_net_has_its_runs(preset, nets, seeds, tmp_path, capsys):
    assert main([f"--preset={preset}", f"--workdir={tmp_path / 'w'}", "--dry_run"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(set(commands)) == nets * seeds
    assert sum("vgg19.py:cifar10,bn" in command for command in commands) == seeds


def test_mean_and_spread_of_last_and_best_stand_beside_published_figures(tmp_path):
    trials = load_trials(SWEEPS["full"], tmp_path)
    for trial, top1 in (
        ("cifar10-vgg16-bn-seed0", [0.95, 0.92]),
        ("cifar10-vgg16-bn-seed1", [0.91, 0.94]),
    ):
        finish(tmp_path / trial, top1)
        store_config(next(t for t in trials if t.name == trial))
    lines = {tuple(line[:3]): line[3:] for line in table_lines(trials)}
    assert len(lines) == 16
    last, best, seeds, seconds, published = lines["cifar10", "vgg16", "batch"]
    assert (last, best, seeds, seconds) == ("93.00 ± 1.41", "94.50 ± 0.71", "0 1", "60 ± 0")
    assert published.startswith("93.86 (chengyangfu/pytorch-vgg-cifar10), 94.16 (")
    # Nothing was run: empty, and no published figure without batch norm on CIFAR-100.
    assert lines["cifar100", "vgg11", "none"] == ["-"] * 5

    out = tmp_path / "out" / "full"
    write_tables(trials, out)
    table = (out / "table.md").read_text()
    assert "93.00 ± 1.41" in table
    (out / "table.md").unlink()
    assert main(["--tables", f"--out={out.parent}"]) == 0  # of what is kept there
    assert (out / "table.md").read_text() == table
    kept = json.loads((out / "cifar10-vgg16-bn-seed0/summary.json").read_text())
    assert kept["command"].endswith("--workdir=runs/cifar10-vgg16-bn-seed0")


@pytest.mark.parametrize("preset", ["short", "quick"])
def test_stored_tables_are_those_of_the_stored_runs(preset, tmp_path):
    shutil.copytree(RESULTS / preset, tmp_path / preset)
    (tmp_path / preset / "table.csv").unlink()
    assert main([f"--preset={preset}", "--redraw", f"--out={tmp_path}"]) == 0
    for name in ("table.csv", "table.md"):
        assert (tmp_path / preset / name).read_text() == (RESULTS / preset / name).read_text()
