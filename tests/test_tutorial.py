"""Does what docs/tutorial.md says: writes its files, runs its commands, executes its Python."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r'^```(\w+)(?: title="(\S+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout, as far as the reader needs one, after everything was typed in turn."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "configs").symlink_to(ROOT / "configs")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{folder}",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())
    assert {kind for kind, _, _ in blocks} == {"sh", "python"}
    for kind, file, text in blocks:
        if file:
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
            continue
        command = ["bash", "-e", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
    return folder


def test_sweep_of_the_new_initialiser_is_complete(folder):
    rows = list(csv.DictReader((folder / "runs/ternary/table.csv").read_text().splitlines()))
    assert [(row["model.kernel_init"], row["runs"], row["seeds"]) for row in rows] == [
        ("he_fan_in", "2", "0 1"),
        ("ternary", "2", "0 1"),
    ]
    assert rows[0]["train/loss_mean"] != rows[1]["train/loss_mean"]


def test_reports_are_written(folder):
    assert "ternary-seed1" in (folder / "runs/ternary.html").read_text()
    assert "training loss" in (folder / "runs/first/report.html").read_text()
