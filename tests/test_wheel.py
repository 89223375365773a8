"""The wheel alone, installed outside of a checkout, trains by name and lists its models."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "configs", "vgg_jax")
SHORT = [
    "--config.model.stages=('3-4','3-8','3-8')",
    "--config.steps=4",
    "--config.log.every_steps=2",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as pip installs it. Building fetches setuptools."""
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    built, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={built}", source], check=True)
    (wheel,) = built.glob("vgg_jax-*.whl")
    subprocess.run([*pip, "install", "--no-deps", f"--target={target}", wheel], check=True)
    return target


def run(installed, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_has_every_file_of_the_package(installed):
    for folder in ("vgg_jax", "configs"):
        files = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
        home = installed / "vgg_jax" / ("configs" if folder == "configs" else "")
        assert not [file for file in files if not (home / file).is_file()]
    assert not (installed / "configs").exists()


@pytest.mark.parametrize("config", ["vgg16:digits", "configs/vgg16.py:digits"])
def test_it_trains_by_name_outside_of_a_checkout(installed, tmp_path, config):
    result = run(installed, tmp_path, "-m", "vgg_jax.train", f"--config={config}", *SHORT)
    assert result.returncode == 0, result.stderr
    assert "finished after step 4; see runs/vgg16-digits/summary.json" in result.stdout
    assert (tmp_path / "runs/vgg16-digits/summary.json").is_file()


def test_the_console_script_trains_too(installed, tmp_path):
    script = str(installed / "bin" / "vgg-jax")
    result = run(installed, tmp_path, script, "train", "--config=vgg16:digits", *SHORT)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "runs/vgg16-digits/summary.json").read_text())
    assert summary["command"].startswith("vgg-jax train --config=vgg16:digits ")
    result = run(installed, tmp_path, script, "train", "--config=vgg16:digit")
    assert (result.returncode, result.stdout) == (2, "")


def test_configs_of_ones_own_build_on_the_packages(installed, tmp_path):
    (tmp_path / "own.py").write_text(
        "from vgg_jax.configs.base import vgg\nget_config = lambda: vgg('A', 'digits')\n"
    )
    arguments = ("-m", "vgg_jax.summarize", "--config=own.py")
    result = run(installed, tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    (tmp_path / "own.py").write_text("from configs.base import vgg\n")
    result = run(installed, tmp_path, *arguments)
    assert "import vgg_jax.configs" in result.stderr
    assert result.returncode == 2
