"""Config files and overrides, and how user errors leave a command line."""

import pytest

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.config import flatten, load_config
from vgg_jax.errors import UserError, unknown_name

VGG16 = "configs/vgg16.py"


@pytest.fixture(autouse=True)
def _in_project_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("--config.optimizer.learning_rate=0.02", "optimizer.learning_rate", 0.02),
        ("--config.optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("--config.steps=7", "steps", 7),
        ("--config.model.residual=true", "model.residual", True),
        ("--config.model.variant=C", "model.variant", "C"),
        ("--config.model.stages=('3-4','3-8 x2')", "model.stages", ("3-4", "3-8 x2")),
        ("--config.data.scale=(256,512)", "data.scale", (256, 512)),
        ("--config.data.scale=[256,512]", "data.scale", (256, 512)),
        ("--config.data.dir=/some/folder", "data.dir", "/some/folder"),
        ("--config.data.train_split=", "data.train_split", ""),
        ("--config.model.norm_group=8", "model.norm_group", 8),
    ],
)
def test_overrides_take_the_type_of_their_field(override, key, value):
    config = flatten(load_config(VGG16, [override]))
    assert config[key] == value
    assert type(config[key]) is type(value)


def test_every_other_key_stays():
    before, after = (flatten(load_config(VGG16, o)) for o in ([], ["--config.seed=5"]))
    assert {k for k in before if before[k] != after[k]} == {"seed"}


def test_words_after_the_colon_combine_in_any_order():
    one, other = (flatten(load_config(f"{VGG16}:{w}")) for w in ("cifar10,bn", "bn,cifar10"))
    assert one == other
    assert (one["data.name"], one["model.norm"], one["model.head"]) == ("cifar10", "batch", "cifar")


def test_works_from_any_folder(pytestconfig, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(str(pytestconfig.rootpath / VGG16)).model.variant == "D"


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("configs/vgg61.py", [], "no config file configs/vgg61.py; .*configs/vgg16.py"),
        (f"{VGG16}:cifar", [], "'cifar'. Did you mean 'cifar10'"),
        (f"{VGG16}:cifar10,digits", [], "two data sets"),
        (VGG16, ["--config.optimizer.lerning_rate=1"], "Did you mean 'optimizer.learning_rate'"),
        (VGG16, ["--config.optimizer=1"], "is a group"),
        (VGG16, ["--config.seed"], "needs a value"),
        (VGG16, ["--wrokdir=x"], "unknown argument '--wrokdir=x'"),
        (VGG16, ["--config.seed=1.5"], "config.seed is of type int, which '1.5' is not"),
        (VGG16, ["--config.optimizer.learning_rate=fast"], "of type float"),
        (VGG16, ["--config.model.residual=maybe"], "type for example --config.model.residual=true"),
        (VGG16, ["--config.data.scale=256"], "of type tuple"),
    ],
)
def test_mistakes_get_a_line_that_helps(spec, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(spec, overrides)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(("count", "shown"), [(10, 10), (60, 4)])
def test_an_unknown_name_is_told_the_others_but_of_many_only_the_nearest(count, shown):
    known = [f"name{i:02d}" for i in range(count)]
    message = str(unknown_name("thing", "nmae03", known))
    assert message.startswith("unknown thing 'nmae03'. Did you mean 'name03'?\n")
    assert message.partition("\n")[2].count("name") == shown


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
