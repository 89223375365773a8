"""Config files, and overrides of their keys."""

import json

import pytest

from vgg_jax.config import (
    SHIPPED,
    as_json,
    flatten,
    load_config,
    override_arguments,
    split_overrides,
)
from vgg_jax.errors import UserError

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


@pytest.mark.parametrize("folder", ["a checkout", "elsewhere"])
@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("vgg16", VGG16),
        ("vgg16:cifar10,bn", f"{VGG16}:cifar10,bn"),
        ("vgg16_bn:cifar10", f"{VGG16}:cifar10,bn"),
        ("vgg11_bn", "configs/vgg11.py:bn"),
        ("speedrun", "configs/speedrun.py"),
        (VGG16, VGG16),
    ],
)
def test_configs_of_the_package_by_name(spec, file, folder, tmp_path, monkeypatch, pytestconfig):
    path, colon, words = file.partition(":")
    expected = flatten(load_config(f"{pytestconfig.rootpath / path}{colon}{words}"))
    if folder == "elsewhere":
        monkeypatch.chdir(tmp_path)
    assert flatten(load_config(spec)) == expected


def test_every_config_file_has_a_name(pytestconfig):
    files = {path.stem for path in (pytestconfig.rootpath / "configs").glob("*.py")}
    assert files - {"__init__", "base"} == set(SHIPPED)


def test_a_config_that_needs_a_checkout_says_so(tmp_path):
    (tmp_path / "own.py").write_text("from configs.nothing import base\n")
    with pytest.raises(UserError, match=r"imports configs.nothing, .* import vgg_jax.configs.noth"):
        load_config(str(tmp_path / "own.py"))


def test_works_from_any_folder(pytestconfig, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(str(pytestconfig.rootpath / VGG16)).model.variant == "D"


@pytest.mark.parametrize(
    ("spec", "overrides", "message"),
    [
        ("configs/vgg61.py", [], "no config file configs/vgg61.py; .*configs/vgg16.py"),
        ("vgg61", [], "unknown config 'vgg61'. Did you mean 'vgg1[0-9]'"),
        ("vgg61_bn", [], "unknown config 'vgg61_bn'. Did you mean 'vgg1[0-9]'"),
        ("nets/vgg61.py", [], "no config file nets/vgg61.py; .*by name: finetune, speedrun, vgg11"),
        (f"{VGG16}:cifar", [], "'cifar'. Did you mean 'cifar10'"),
        (f"{VGG16}:cifar10,digits", [], "two data sets"),
        (VGG16, ["--config.optimizer.lerning_rate=1"], "Did you mean 'optimizer.learning_rate'"),
        (VGG16, ["--config.optimizer=1"], "is a group"),
        (VGG16, ["--config.seed"], "needs a value"),
        (VGG16, ["--wrokdir=x"], "unknown argument '--wrokdir=x'"),
        (VGG16, ["--config.seed=1.5"], "config.seed is of type int, which '1.5' is not"),
        (VGG16, ["--config.optimizer.learning_rate=fast"], "of type float"),
        (VGG16, ["--config.model.residual=maybe"], "type for example --config.model.residual=true"),
        (VGG16, ["--config.data.scale=256"], r'example --config.data.scale="\(256, 256\)"'),
        (VGG16, ["--config.log.trackers=mlflow"], r"""config.log.trackers="\('mlflow',\)\""""),
    ],
)
def test_mistakes_get_a_line_that_helps(spec, overrides, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(spec, overrides)
    assert len(str(error.value).splitlines()) <= 2


def test_overrides_are_told_from_the_other_arguments():
    overrides = override_arguments({"seed": 3, "model.stages": ("3-4",)})
    argv = ["--variant=D", overrides[0], "a.pth", overrides[1], "b.safetensors"]
    assert split_overrides(argv) == (overrides, ["--variant=D", "a.pth", "b.safetensors"])
    config = load_config(VGG16, overrides)
    assert (config.seed, config.model.stages) == (3, ("3-4",))


def test_the_stored_config_of_a_run_is_a_config(tmp_path):
    config = load_config(f"{VGG16}:cifar10,bn", ["--config.optimizer.rates=(('fc8/.*',2.0),)"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(as_json(config)))
    assert flatten(load_config(str(path))) == flatten(config)
    again = load_config(str(path), ["--config.steps=7", "--config.model.stages=('3-4',)"])
    assert (again.steps, again.model.stages) == (7, ("3-4",))
    with pytest.raises(UserError, match=r"no .*config\.json:bn"):
        load_config(f"{path}:bn")
    path.write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_config(str(path))


def test_a_value_may_follow_after_a_space():
    arguments = ["--workdir", "a", "--config.seed", "-1", "--config.steps=3", "--config.epochs"]
    overrides, others = split_overrides([*arguments, "--distributed"])
    assert overrides == ["--config.seed=-1", "--config.steps=3", "--config.epochs"]
    assert others == ["--workdir", "a", "--distributed"]
    with pytest.raises(UserError, match=r"--config.epochs needs a value"):
        load_config(VGG16, overrides)


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("def get_config(): return base()", "{}", None),
        ("def get_config(): return base()", "{}:bn", "takes no argument: leave out ':bn'"),
        ("def get_config(argument=''): return {'seed': 1}", "{}", "returns no ConfigDict"),
        ("config = base()", "{}", "defines no get_config"),
    ],
)
def test_functions_of_config_files(tmp_path, text, spec, message):
    path = tmp_path / "own.py"
    path.write_text(f"from configs.base import base\n{text}\n")
    if message is None:
        assert load_config(spec.format(path)).model.variant == "D"
        return
    with pytest.raises(UserError, match=message):
        load_config(spec.format(path))
