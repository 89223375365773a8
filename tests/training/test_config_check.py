"""Values drawn from the domains of the config, and from outside them."""

import importlib.util
import math
import shlex
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs.base import base
from vgg_jax.config import flatten, load_config
from vgg_jax.errors import UserError
from vgg_jax.json_files import write_json
from vgg_jax.models import domains
from vgg_jax.models.initializers import INITIALIZERS
from vgg_jax.models.variants import KNOWN_VARIANTS
from vgg_jax.runs.directory import read_config
from vgg_jax.training.config_check import DOMAINS, check_config
from vgg_jax.training.setup import build, first_state
from vgg_jax.training.trackers import TRACKERS

quick = settings(deadline=None, derandomize=True, database=None)
STAGES = [("3-4", "3-4"), ("3-4 x2", "5-8, 1-8"), ("3-4, LRN", "3-4 x2", "3-8")]


def changed(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    with config.ignore_type(), config.unlocked():
        for key, value in values.items():
            group, _, leaf = key.rpartition(".")
            (config[group] if group else config)[leaf] = value
    return config


def inside(domain: domains.Domain) -> st.SearchStrategy:
    match domain:
        case domains.Whole(low, high):
            return st.integers(low, min(high, low + 100))
        case domains.Number():
            low, high = max(domain.low, -1e6), min(domain.high, 1e6)
            ends = {"exclude_min": domain.open_low, "exclude_max": domain.open_high}
            return st.floats(low, high, **ends)
        case domains.Flag():
            return st.booleans()
        case domains.OneOf(names):
            return st.sampled_from(sorted(names))
        case domains.Text(shortest):
            return st.text(min_size=shortest)
        case domains.Pattern():
            return st.sampled_from([".*/kernel", "fc8/.*", "(conv|fc).*"])
        case domains.Each(item, shortest, longest):
            return st.lists(inside(item), min_size=shortest, max_size=longest or 3).map(tuple)
        case domains.Pair(first, second):
            return st.tuples(inside(first), inside(second))
        case domains.Unset(otherwise):
            return st.none() | inside(otherwise)
    raise AssertionError(domain)


def outside(domain: domains.Domain) -> st.SearchStrategy:
    strange = st.sampled_from([b"x", float("nan"), object()])
    match domain:
        case domains.Whole(low, high):
            return strange | st.integers(max_value=low - 1) | st.integers(high + 1) | st.just(1.5)
        case domains.Number(low, high):
            wrong = strange | st.sampled_from(["1", math.inf, -math.inf])
            if low > -math.inf:
                wrong |= st.floats(max_value=low, exclude_max=not domain.open_low)
            if high < math.inf:
                wrong |= st.floats(min_value=high, exclude_min=not domain.open_high)
            return wrong
        case domains.OneOf(names):
            return strange | st.text().filter(lambda text: text not in names)
        case domains.Flag() | domains.Text():
            return strange | st.sampled_from([0, 1.0, ("",)])
        case domains.Pattern():
            return strange.filter(lambda value: not isinstance(value, bytes)) | st.just("(")
        case domains.Each(item, shortest, longest):
            wrong = strange | st.lists(outside(item), min_size=max(1, shortest))
            if longest is not None:
                wrong |= st.lists(inside(item), min_size=longest + 1)
            return wrong
        case domains.Pair():
            return strange | st.just((1, 2, 3))
        case domains.Unset(otherwise):
            return outside(otherwise).filter(lambda value: value is not None)
        case domains.Parsed():
            return strange | st.sampled_from(["", "vgg_99", "3-64 x0", "x" * 5_000])
    raise AssertionError(domain)


def test_every_key_has_its_domain_and_every_default_is_in_it() -> None:
    assert set(DOMAINS) == set(flatten(base()))
    check_config(base())


@pytest.mark.parametrize("domain", [domains.Whole(0), domains.Number(0)])
def test_a_truth_value_is_no_number(domain: domains.Domain) -> None:
    assert domain.complaint(1) is None
    assert domain.complaint(True) is not None


@pytest.mark.parametrize("key", DOMAINS)
def test_a_value_from_outside_is_named_in_one_line(key: str) -> None:
    config = ConfigDict(base().to_dict(), type_safe=False)
    group, _, leaf = key.rpartition(".")
    section = config[group] if group else config

    @quick
    @given(outside(DOMAINS[key]))
    def refused(value: Any) -> None:
        section[leaf] = value
        with pytest.raises(UserError) as caught:
            check_config(config)
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"config.{key}=")
        assert len(line) < 1000

    refused()


INSTALLED = [(), *((name,) for name in TRACKERS if importlib.util.find_spec(name))]
SIZES = {
    "model.variant": st.sampled_from(KNOWN_VARIANTS),
    "model.stages": st.sampled_from(STAGES),
    "model.num_classes": st.integers(10, 20),
    "model.kernel_init": st.sampled_from(sorted({*INITIALIZERS} - {"lsuv"})),
    "model.norm_group": st.sampled_from([1, 2]),
    "model.head_features": st.none() | st.lists(st.integers(4, 16), max_size=2).map(tuple),
    "model.width": st.floats(0.75, 2),  # delta_orthogonal: no fewer channels out than in
    "model.residual": st.just(False),  # wants one number of channels in a stage
    "data.image_size": st.sampled_from([8, 16]),
    "data.batch_size": st.sampled_from([16, 32]),
    "data.pad": st.integers(0, 8),
    "data.cutout": st.integers(0, 8),
    "data.scale": st.tuples(st.integers(16, 20), st.integers(20, 24)),
    "data.eval_resize": st.integers(16, 24),
    "data.workers": st.just(0),
    "optimizer.warmup_epochs": st.floats(0, 1),
    "optimizer.accumulate": st.sampled_from([1, 2]),
    "optimizer.frozen": st.sampled_from([(), ("conv.*",)]),
    "epochs": st.floats(1, 100),
    "eval.every_steps": st.integers(1, 100),
    "eval.batch_size": st.sampled_from([8, 16]),
    "log.trackers": st.sampled_from(INSTALLED),  # others are refused
    "parallel.mode": st.just("jit"),
    "parallel.model": st.just(1),
    "parallel.steps_per_dispatch": st.just(1),
}
FIXED = {"init.weights", "init.fresh", "data.source", "data.train_split", "data.eval_split"}
DRAWN = {
    key: SIZES[key] if key in SIZES else inside(domain)
    for key, domain in DOMAINS.items()
    if key not in FIXED
}


# A draw takes seconds: none is spent on making a failing one smaller.
@settings(quick, max_examples=3, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries(DRAWN))
def test_any_config_from_inside_builds_and_steps(values: dict[str, Any]) -> None:
    if values["model.head"] == "linear":
        values["model.head_features"] = None
    config = changed(load_config("configs/vgg11.py:digits"), values)
    run = build(config)
    state = first_state(run, config)
    _, inputs = next(run.feed(0, 1))
    state, metrics = run.advance(state, inputs)
    # Extreme numbers may overflow: then the step is not made, and the state says so.
    finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])
    assert bool(state.healthy) == finite
    assert int(state.step) == finite


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"data.scale": (512, 256)}, r"config.data.scale=\(512, 256\): must be a range"),
        ({"data.scale": (200, 256)}, "at least data.image_size=224"),
        ({"data.cutout": 1000}, "config.data.cutout=1000: must be at most data.image_size=224"),
        ({"data.augment": "pad_crop", "data.pad": 1000}, "config.data.pad=1000: must be at most"),
        ({"optimizer.warmup_epochs": 80.0}, "must be at most epochs=74.0"),
        ({"eval.every_steps": 0}, "follows the validation error"),
        ({"data.image_size": 225}, "multiple of 32"),
        ({"model.residual": True, "model.stages": ("3-4, 3-8",)}, "one number of channels"),
        ({"model.head": "linear", "model.head_features": (8,)}, "not 'linear'"),
        ({"optimizer.learning_rat": 1.0}, "no such key; did you mean optimizer.learning_rate?"),
    ],
)
def test_what_does_not_fit_together(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        check_config(changed(base(), values))


def test_several_problems_are_told_at_once() -> None:
    wrong = {"seed": -1, "epochs": 0.0, "model.norm": "layer"}
    with pytest.raises(UserError) as caught:
        check_config(changed(base(), wrong))
    lines = str(caught.value).splitlines()
    assert lines[0] == "the config has 3 problems:"
    assert [line.partition("=")[0] for line in lines[1:]] == [
        f"config.{key}" for key in sorted(wrong)
    ]
    with pytest.raises(
        UserError, match=rf"{len(DOMAINS)} problems:\n(.*\n){{8}}and {len(DOMAINS) - 8} m"
    ):
        check_config(changed(base(), dict.fromkeys(DOMAINS, object())))


def test_a_stored_config_is_checked_like_one_from_a_file(tmp_path) -> None:
    stored = base()
    write_json(tmp_path / "config.json", stored.to_dict())
    check_config(read_config(tmp_path))
    stored.optimizer.momentum = 5.0
    with stored.unlocked():
        del stored.data["flip"]
    write_json(tmp_path / "config.json", stored.to_dict())
    with pytest.raises(UserError, match=r"optimizer\.momentum=5\.0: .*\n.*flip is missing"):
        check_config(read_config(tmp_path))


MISTYPED = [
    key
    for key, value in flatten(base()).items()
    if not isinstance(value, str) and key not in ("data.dir", "init.weights")  # text, or None
]


@pytest.mark.parametrize("key", MISTYPED)
def test_the_example_of_a_mistyped_value_is_a_value_of_that_key(key):
    empty = [f"--config.optimizer.{key}=()" for key in ("decay_on", "decay_epochs")]
    with pytest.raises(UserError, match=f"type for example --config.{key}=") as error:
        load_config("vgg16", [*empty, f"--config.{key}=mlflow"])
    example = shlex.split(str(error.value).partition("for example ")[2])
    value = flatten(load_config("vgg16", example))[key]
    assert DOMAINS[key].complaint(value) is None
