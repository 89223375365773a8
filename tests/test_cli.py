"""Command lines: their arguments, and how user errors leave them."""

import pytest

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
