"""The wheel alone, in a new environment outside of a checkout: trains, predicts, reports."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "configs", "vgg_jax")
TRAIN = ("-m", "vgg_jax.train")
SHORT = [
    "--config.data.image_size=8",
    "--config.model.stages=('3-4','3-8')",
    "--config.model.head=linear",
    "--config.steps=4",
    "--config.log.every_steps=2",
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment with the package as pip installs it. Building fetches setuptools.

    Its other packages are those of the environment that the tests run in.
    """
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    built, environment = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("environment")
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={built}", source], check=True)
    (wheel,) = built.glob("vgg_jax-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = environment / "bin" / "python"
    subprocess.run([*pip, f"--python={python}", "install", "--no-deps", wheel], check=True)
    return environment


def run(installed, folder, program, *arguments):
    return subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=folder,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_has_every_file_of_the_package(installed):
    (packages,) = installed.glob("lib/python3*/site-packages")
    for folder in ("vgg_jax", "configs"):
        files = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}
        home = packages / "vgg_jax" / ("configs" if folder == "configs" else "")
        assert not [file for file in files if not (home / file).is_file()]
    assert not (packages / "configs").exists()


def test_from_a_config_s_file_name_to_a_trained_net(installed, tmp_path):
    result = run(installed, tmp_path, "python", *TRAIN, "--config=configs/vgg16.py:digits", *SHORT)
    assert result.returncode == 0, result.stderr
    assert "finished after step 4; see runs/vgg16-digits/summary.json" in result.stdout


def test_the_console_script_trains_predicts_and_reports(installed, tmp_path):
    def command(line, status=0):
        result = run(installed, tmp_path, "vgg-jax", *line.split())
        assert result.returncode == status, result.stderr
        return result.stdout

    command(f"train --config=vgg16:digits {' '.join(SHORT)}")
    summary = json.loads((tmp_path / "runs/vgg16-digits/summary.json").read_text())
    assert summary["command"].startswith("vgg-jax train --config=vgg16:digits ")
    command("convert --from=run runs/vgg16-digits digits.safetensors")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "digit.png")
    shown = command("predict --weights=digits.safetensors digit.png --top=10").splitlines()
    assert {line.split()[-1] for line in shown[1:]} == set("0123456789")
    command("report runs/vgg16-digits")
    assert (
        "Protocol: data digits test, 359 examples"
        in (tmp_path / "runs/vgg16-digits/report.html").read_text()
    )
    assert command("train --config=vgg16:digit", status=2) == ""


def test_configs_of_ones_own_build_on_the_packages(installed, tmp_path):
    (tmp_path / "own.py").write_text(
        "from vgg_jax.configs.base import vgg\nget_config = lambda: vgg('A', 'digits')\n"
    )
    arguments = ("python", "-m", "vgg_jax.summarize", "--config=own.py")
    result = run(installed, tmp_path, *arguments)
    assert result.returncode == 0, result.stderr
    (tmp_path / "own.py").write_text("from configs.base import vgg\n")
    result = run(installed, tmp_path, *arguments)
    assert "import vgg_jax.configs" in result.stderr
    assert result.returncode == 2
