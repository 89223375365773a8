import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.weights import files
from vgg_jax.cli import run_command
from vgg_jax.config import load_config
from vgg_jax.convert import main
from vgg_jax.errors import UserError
from vgg_jax.training.loop import train
from vgg_jax.weights.loading import load_weights

ROOT = Path(__file__).parent.parent
NARROW = [
    f"--config={ROOT}/configs/vgg16.py",
    "--config.model.width=0.03125",
    f"--config.model.head_features={files.HIDDEN}",
    f"--config.model.num_classes={files.CLASSES}",
    f"--config.data.image_size={files.SIDE}",
]


def test_in_and_out_again(tmp_path, capsys):
    state = files.torch_state("D", "none", "torchvision")
    theirs, ours, back = (tmp_path / f"{n}.safetensors" for n in ("theirs", "ours", "back"))
    safetensors.numpy.save_file(state, theirs)
    assert main(["--from=torchvision", *NARROW, str(theirs), str(ours)]) == 0
    assert "32 tensors, 7 classes; images RGB, resized to 73, cropped to 64" in (
        capsys.readouterr().out
    )
    assert main(["--to=torchvision", str(ours), str(back)]) == 0
    assert "RGB in 0..1, minus (0.485, 0.456, 0.406)" in capsys.readouterr().out
    for name, tensor in safetensors.numpy.load_file(back).items():
        np.testing.assert_array_equal(tensor, state[name])
    assert main(["--to=stablehlo", str(ours), str(tmp_path / "net.stablehlo")]) == 0
    assert (tmp_path / "net.stablehlo").stat().st_size > 1000


def test_numerics_of_the_config_are_kept(tmp_path):
    """The network computes as the config says, after an import and from a run."""
    numerics = ["--config.compute_dtype=bfloat16", "--config.matmul_precision=tensorfloat32"]
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    safetensors.numpy.save_file(files.torch_state("D", "none", "torchvision"), theirs)
    assert main(["--from=torchvision", *NARROW, *numerics, str(theirs), str(ours)]) == 0
    tiny = ["--config.model.stages=('3-4','3-8')", "--config.data.image_size=8"]
    tiny += ["--config.model.head=linear", "--config.data.batch_size=8", "--config.steps=1"]
    config = load_config(f"{ROOT}/configs/vgg16.py:digits", [*tiny, *numerics])
    train(config, tmp_path / "run", 0.0)
    assert main(["--from=run", str(tmp_path / "run"), str(tmp_path / "run.safetensors")]) == 0
    for path in (ours, tmp_path / "run.safetensors"):
        model = load_weights(path).model
        assert model.dtype == jnp.bfloat16
        assert model.matmul_precision == "tensorfloat32"


def test_whole_command_line(tmp_path, monkeypatch, capsys):
    files.write_keras(tmp_path / "net.h5", files.channels_last_arrays("D"), "legacy")
    arguments = ["--from=keras", *NARROW, "net.h5"]
    result = subprocess.run(
        [sys.executable, "-m", "vgg_jax.convert", *arguments, "net.safetensors"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert load_weights(tmp_path / "net.safetensors").preprocessing.channel_order == "BGR"

    (tmp_path / "net.h5").write_bytes((tmp_path / "net.h5").read_bytes()[:3000])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["convert", *arguments, "again.safetensors"])
    with pytest.raises(SystemExit) as exit_info:
        run_command(main)
    assert exit_info.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: cannot read net.h5 as Keras HDF5")
    assert "Traceback" not in err
    assert not (tmp_path / "again.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from=keras"], "give --variant=D"),
        (["--from=kears", "--variant=D"], "Did you mean 'keras'"),
        (["--to=tochvision"], "Did you mean 'torchvision'"),
        (["--from=keras", "--variant=D", "--config.model.width=2"], "give --config=FILE"),
        (["--from=keras", "--variant=F"], "unknown model 'F'"),
        (["--to=torchvision"], "no weights file a"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        main([*arguments, "a", "b.safetensors"])
    with pytest.raises(UserError, match=r"end in \.safetensors"):
        main(["--from=keras", "--variant=D", "a", "b.h5"])
