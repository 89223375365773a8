"""Command lines: their arguments, and how user errors leave them."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vgg_jax
from vgg_jax.__main__ import COMMANDS
from vgg_jax.__main__ import main as package_main
from vgg_jax.cli import CommandParser, run_command
from vgg_jax.config import SHIPPED, load_config
from vgg_jax.configs.base import DATASETS, RECIPES
from vgg_jax.errors import UserError
from vgg_jax.summarize import main as summarize


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


def started(program, *arguments, **environment):
    """Runs the package's command line as a program of that name does."""
    script = f"import sys; sys.argv[0] = {program!r}; from vgg_jax.__main__ import run; run()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_the_package_lists_its_commands_and_tells_its_version(capsys):
    assert package_main([]) == 0
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        package_main(["--help"])
    assert (exit_info.value.code, capsys.readouterr().out) == (0, shown)
    listed = re.findall(r"^    (\w+)\s+[A-Z]", shown.partition("COMMAND\n")[2], re.MULTILINE)
    folder = Path(vgg_jax.__file__).parent
    commands = {p.stem for p in folder.glob("*.py") if "run_command(main)" in p.read_text()}
    assert set(listed) == commands - {"__main__"} | {"configs"} == set(COMMANDS)
    assert package_main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("vgg_jax")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_help_by_the_name_that_was_typed_and_without_jax(command):
    script = (
        "import atexit, sys; sys.argv[0] = '/some/folder/vgg-jax'\n"
        "atexit.register(lambda: print({'jax', 'tensorflow_datasets'} & sys.modules.keys()))\n"
        "from vgg_jax.__main__ import run; run()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, command, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: vgg-jax {command} ")
    assert f"python -m vgg_jax.{command}" not in result.stdout
    assert result.stdout.endswith("set()\n")


def test_a_command_of_the_package_is_the_module_s(capsys):
    arguments = ["--variant=D", "--image_size=64"]
    assert package_main(["summarize", *arguments]) == summarize(arguments) == 0
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :]
    package = [sys.executable, "-m", "vgg_jax", "summarize"]
    result = subprocess.run([*package, "--varian=D"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Run python -m vgg_jax summarize --help for the options." in result.stderr


def test_an_unknown_command_is_answered_with_the_nearest():
    result = started("vgg-jax", "trian", "--config=vgg16")
    assert (result.returncode, result.stdout) == (2, "")
    assert "unknown command 'trian'. Did you mean 'train'?" in result.stderr
    assert started("vgg-jax", "--versoin").stderr.endswith("Run vgg-jax --help for the options.\n")


def test_every_listed_config_takes_the_words_that_are_listed(capsys):
    assert package_main(["configs"]) == 0
    _, configs, datasets, recipes = capsys.readouterr().out.split("\n\n")
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in configs.splitlines())
    names = {re.split(r"[:[]", line)[0]: line for line in configs.splitlines()}
    assert names.keys() == set(SHIPPED)
    assert "finetune:FILE[,DATASET] " in names.pop("finetune")
    words = [[line.split()[0] for line in part.splitlines()[1:]] for part in (datasets, recipes)]
    assert words == [list(DATASETS), list(RECIPES)]
    for name in names:
        for dataset in words[0]:
            load_config(f"{name}:{dataset},{','.join(words[1])}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vgg-jax tra", {"train"}),
        ("vgg-jax ", {*COMMANDS, "-h", "--help", "--version"}),
        ("vgg-jax train --proc", {"--processes", "--process_id"}),
        ("vgg-jax predict --weights=net.safetensors --t", {"--top"}),
        ("vgg-jax sweep --launcher=", {"--launcher=local", "--launcher=ray"}),
        ("python -m vgg_jax summarize --im", {"--image_size"}),
    ],
)
def test_a_shell_completes_commands_and_options(line, expected, tmp_path):
    pytest.importorskip("argcomplete")
    words_of_the_program = 1 if line.startswith("vgg-jax") else 3
    result = started(
        "vgg-jax",
        _ARGCOMPLETE=str(words_of_the_program),
        _ARGCOMPLETE_STDOUT_FILENAME=str(tmp_path / "found"),
        _ARGCOMPLETE_IFS="\n",
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
    )
    assert (result.returncode, result.stdout) == (0, "")
    found = (tmp_path / "found").read_text().split("\n")
    assert {word.strip() for word in found} == expected


def test_a_signal_at_the_end_does_not_replace_the_status():
    script = """
import atexit, os, signal
from vgg_jax.cli import run_command
atexit.register(lambda: [os.kill(os.getpid(), n) for n in (signal.SIGTERM, signal.SIGHUP)])
run_command(lambda argv: 4)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 4


def test_imports_are_collected_neither_while_they_are_made_nor_later():
    script = """
import gc
from vgg_jax.cli import quick_imports
for _ in range(2):
    with quick_imports():
        print(gc.isenabled())
        import jax
    print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "True", "True", "True", "True", "True"]


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m vgg_jax | true; echo ${{PIPESTATUS[0]}} >&2"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr in ("141\n", "0\n")  # whoever was first
    script = "from vgg_jax.cli import run_command\ndef main(argv):\n    raise BrokenPipeError\n"
    result = subprocess.run(
        [sys.executable, "-c", f"{script}run_command(main)"], capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (141, b"")
