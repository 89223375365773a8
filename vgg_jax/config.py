"""Config files: reading one, and changing it from a command line."""

import ast
import copy
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from vgg_jax.errors import UserError, quoted, unknown_name
from vgg_jax.json_files import read_object

OVERRIDE = "--config."

# The configs that come with the package: in a checkout a link to the folder `configs`.
PACKAGE = "vgg_jax.configs"
SHIPPED = tuple(
    sorted(
        path.stem
        for path in Path(__file__).with_name("configs").glob("*.py")
        if path.stem not in ("__init__", "base")
    )
)
_BATCH_NORM = "_bn"  # at the end of a name, as torchvision has it, for the word "bn"

# Keys that came after runs had been stored, and what those runs did.
_LATER_KEYS: dict[str, Any] = {
    "init": {"weights": None, "fresh": []},
    "data": {"channel_order": "RGB", "cutout": 0, "on_error": "raise"},
    "log": {"trackers": []},
    "optimizer": {"rates": [], "frozen": []},
}

# Examples of the tuples that may be empty or None.
_TUPLES = {
    "init.fresh": ("fc8/.*",),
    "log.trackers": ("mlflow",),
    "model.head_features": (512,),
    "model.stages": ("3-64 x2", "3-128 x2"),
    "optimizer.decay_epochs": (30.0, 60.0),
    "optimizer.decay_on": (".*/kernel",),
    "optimizer.frozen": ("conv[1-4]_.*",),
    "optimizer.rates": (("fc8/.*", 10.0),),
}


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config and applies `--config.key=value` overrides.

    Args:
      spec: name of a config of the package, or path of a Python file that defines `get_config`,
        optionally followed by a colon and the string that is handed to it: "vgg16:cifar10,bn",
        "own/config.py:cifar10"; or path of the `config.json` of a run, which is data: no code runs.
      overrides: arguments such as "--config.optimizer.learning_rate=0.02". A value has the type of
        the field it replaces; tuples are written as in Python, "(256,512)".

    Raises:
      UserError: for a missing file, an unknown name or key (the nearest one is named), a value of
        the wrong type, or an argument that is no override.
    """
    path, _, argument = spec.partition(":")
    if path.endswith(".json"):
        config = stored_config(Path(spec))
    elif _is_name(path):
        config = _shipped_config(path, argument)
    else:
        config = _called(_config_function(Path(path)), argument, path)
    apply_overrides(config, overrides)
    config.lock()
    return config


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Changes a config by arguments `--config.key=value`; see `load_config`."""
    for override in overrides:
        name, equals, text = override.partition("=")
        if not name.startswith(OVERRIDE):
            raise UserError(f"unknown argument {override!r}; overrides look like --config.seed=1")
        if not equals:
            raise UserError(f"{name} needs a value: type {name}=VALUE")
        _set_field(config, name.removeprefix(OVERRIDE), text)


def stored_config(path: Path) -> ConfigDict:
    """Returns the config in a `config.json`; keys made since it was written have their defaults.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    stored = read_object(path)
    stored = {"check_memory": True, "deterministic": False} | stored
    for group, later in _LATER_KEYS.items():
        if not isinstance(stored.get(group, {}), dict):
            raise UserError(f"{path} is damaged: {group} is no group of keys")
        stored[group] = later | stored.get(group, {})
    try:
        return ConfigDict(_from_json(stored))
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {quoted(str(error))}") from error


def with_classes(config: ConfigDict, count: int) -> ConfigDict:
    """Returns a copy of a config for a network of so many classes."""
    settled = copy.deepcopy(config)
    settled.model.num_classes = count
    return settled


def as_json(config: ConfigDict) -> dict[str, Any]:
    """Returns what `config.json` has of a config: tuples as lists."""
    return json.loads(config.to_json_best_effort())


def _from_json(value: Any) -> Any:
    """Returns a JSON value with tuples for lists, and a place for any value if it is null."""
    if isinstance(value, dict):
        return {key: _from_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_from_json(inner) for inner in value)
    return placeholder(object) if value is None else value


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the `--config.key=value` arguments of a command line, and all others.

    To be parsed apart: argparse would take what follows them for more of them. A value may follow
    after a space, as it may with Abseil's flags.
    """
    overrides: list[str] = []
    others: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        lacks_value = argument.startswith(OVERRIDE) and "=" not in argument
        if lacks_value and rest and not rest[0].startswith("--"):
            argument += f"={rest.pop(0)}"
        (overrides if argument.startswith(OVERRIDE) else others).append(argument)
    return overrides, others


def override_arguments(changes: Mapping[str, Any]) -> list[str]:
    """Returns the arguments `--config.key=value` for {dotted key: value}."""
    return [f"{OVERRIDE}{key}={value}" for key, value in changes.items()]


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns {dotted key: value} for every leaf of a config."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def _called(get_config: Callable[..., Any], argument: str, path: str) -> ConfigDict:
    """Calls a config file's function, which may take no argument if none is given."""
    takes_one = bool(inspect.signature(get_config).parameters)
    if argument and not takes_one:
        raise UserError(f"get_config of {path} takes no argument: leave out ':{argument}'")
    config = get_config(argument) if takes_one else get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config of {path} returns no ConfigDict; change one of configs.base")
    return config


def _is_name(path: str) -> bool:
    """Says whether a config is named rather than given as a file.

    A file of the package is named too, `configs/vgg16.py` outside of a checkout.
    """
    given = Path(path)
    if given == Path("configs", f"{given.stem}.py"):
        return given.stem in SHIPPED and not given.is_file()
    return given.name == path and not given.suffix


def _shipped_config(path: str, argument: str) -> ConfigDict:
    name = Path(path).stem
    if name not in SHIPPED and name.endswith(_BATCH_NORM):
        name = name.removesuffix(_BATCH_NORM)
        argument = ",".join(word for word in (argument, "bn") if word)
    if name not in SHIPPED:
        raise unknown_name("config", path, SHIPPED)
    return _called(importlib.import_module(f"{PACKAGE}.{name}").get_config, argument, name)


def _config_function(path: Path) -> Callable[[str], ConfigDict]:
    if not path.is_file():
        known = sorted(str(p) for p in Path("configs").glob("*.py") if not p.stem.startswith("_"))
        there = f"the ones here are {', '.join(known)}; " if known else ""
        raise UserError(f"no config file {path}; {there}by name: {', '.join(SHIPPED)}")
    # Config files may import what is beside their folder, from any working folder.
    root = str(path.resolve().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location(f"config_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file; give a config such as configs/vgg16.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("configs"):
            raise
        raise UserError(
            f"{path} imports {error.name}, which is in a checkout only: import vgg_jax.{error.name}"
        ) from error
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} defines no get_config; give a config such as configs/vgg16.py")
    return module.get_config


def _set_field(config: ConfigDict, key: str, text: str) -> None:
    keys = flatten(config)
    if key not in keys:
        inner = [k for k in keys if k.startswith(f"{key}.")]
        if inner:
            raise UserError(f"config.{key} is a group: set one of {', '.join(inner)}")
        raise unknown_name("config key", key, keys)
    *parents, leaf = key.split(".")
    for parent in parents:
        config = config[parent]
    config[leaf] = _parse(key, text, config.get_type(leaf), config[leaf])


def _parse(key: str, text: str, kind: type, present: Any) -> Any:
    """Returns what `text` stands for in a field of type `kind` that has the value `present`."""
    if kind is str:
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        if kind is float and type(value) is int:
            value = float(value)
        if kind is tuple and isinstance(value, list):
            value = tuple(value)
    except (ValueError, SyntaxError):
        value = text
    if kind is not object and type(value) is not kind:
        examples = {bool: "true", int: "3", float: "0.1"}
        example = examples.get(kind) or f'"{present or _TUPLES.get(key, (1, 2))}"'
        raise UserError(
            f"config.{key} is of type {kind.__name__}, which {text!r} is not; "
            f"type for example --config.{key}={example}"
        )
    return value
