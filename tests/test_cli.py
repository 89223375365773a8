"""Command lines: their arguments, and how user errors leave them."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import vgg_jax
from vgg_jax.__main__ import main as package_main
from vgg_jax.cli import CommandParser, run_command
from vgg_jax.errors import UserError


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [(UserError("no such thing"), 2, "error: no such thing\n"), (KeyboardInterrupt(), 130, "")],
)
def test_exit_status_without_traceback(error, status, line, capsys):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as exit_info:
        run_command(main)
    assert exit_info.value.code == status
    stderr = capsys.readouterr().err
    assert line in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --variant"),
        (["--variant=D", "--size=x"], "argument --size: invalid int value: 'x'"),
        (["--varian=D"], "required: --variant"),
        (["--variant=D", "--siz=1"], "unrecognized arguments: --siz=1"),
    ],
)
def test_wrong_arguments_get_two_lines(arguments, message):
    parser = CommandParser("vgg_jax.some", "Does something.")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--size", type=int)
    with pytest.raises(UserError, match=message) as error:
        parser.parse_args(arguments)
    assert str(error.value).splitlines()[1:] == [
        "Run python -m vgg_jax.some --help for the options."
    ]


def test_the_package_lists_its_commands_and_tells_its_version(capsys):
    assert package_main([]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "Each has --help."
    listed = {line.split()[2].removeprefix("vgg_jax.") for line in lines}
    folder = Path(vgg_jax.__file__).parent
    commands = {p.stem for p in folder.glob("*.py") if "run_command(main)" in p.read_text()}
    assert listed == commands - {"__main__"}
    assert all(len(line.split(maxsplit=3)[3]) > 20 for line in lines)
    assert package_main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("vgg_jax")


def test_a_signal_at_the_end_does_not_replace_the_status():
    script = """
import atexit, os, signal
from vgg_jax.cli import run_command
atexit.register(lambda: [os.kill(os.getpid(), n) for n in (signal.SIGTERM, signal.SIGHUP)])
run_command(lambda argv: 4)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 4


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m vgg_jax | true; echo ${{PIPESTATUS[0]}} >&2"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr in ("141\n", "0\n")  # whoever was first
    script = "from vgg_jax.cli import run_command\ndef main(argv):\n    raise BrokenPipeError\n"
    result = subprocess.run(
        [sys.executable, "-c", f"{script}run_command(main)"], capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (141, b"")
