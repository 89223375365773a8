"""The estimate of a step's memory: a lower bound, and not a loose one."""

import jax
import pytest

from vgg_jax.config import load_config
from vgg_jax.errors import UserError
from vgg_jax.training import memory
from vgg_jax.training.setup import build

SPEC = "configs/vgg11.py:digits"
SMALL = ["--config.model.width=0.25", "--config.data.batch_size=64", "--config.eval.batch_size=8"]
FEWER = "--config.model.stages=('3-64','3-128','3-256','3-512','3-512')"  # than VGG-11's eight


@pytest.fixture(autouse=True)
def _in_project_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


def estimate(monkeypatch, *options: str) -> float:
    """Returns what a step is said to need, in bytes: room for nothing makes it tell."""
    monkeypatch.setattr(memory, "device_bytes", lambda devices: 0)
    monkeypatch.setattr(memory, "_gigabytes", lambda size: f"{size} bytes")
    with pytest.raises(UserError, match="at least") as error:
        build(load_config(SPEC, [*SMALL, *options]))
    monkeypatch.undo()
    return int(str(error.value).partition("at least ")[2].split()[0])


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--config.model.norm=batch", "--config.optimizer.ema=0.9"),
        ("--config.model.stages=('3-64 x3','3-64 x2')",),
        ("--config.optimizer.accumulate=2",),
    ],
)
def test_is_a_lower_bound_and_within_a_factor(monkeypatch, pytestconfig, options):
    needed = estimate(monkeypatch, FEWER, *options)
    monkeypatch.chdir(pytestconfig.rootpath)
    config = load_config(SPEC, [*SMALL, FEWER, *options])
    run = build(config)
    state = run.parallel.abstract(run.init_fn)
    _, batch = next(run.feed(0, 1))
    measured = run.advance.lower(state, batch).compile().memory_analysis()
    peak = measured.argument_size_in_bytes + measured.temp_size_in_bytes
    assert 0.25 * peak < needed < peak


def test_what_cannot_fit_is_refused_unless_asked_to_try(monkeypatch, pytestconfig):
    options = ["--config.data.batch_size=100000000"]
    with pytest.raises(UserError, match=r"activations of 25,000,000 .*\nLower data.batch_size"):
        build(load_config(SPEC, options))
    left_open = load_config(SPEC, options)
    left_open.model.num_classes = None  # then the data is opened before
    with pytest.raises(UserError, match=r"activations of 25,000,000 .*\nLower data.batch_size"):
        build(left_open)
    tiny = [*SMALL, "--config.check_memory=false", "--config.model.stages=('3-4',)"]
    monkeypatch.setattr(memory, "device_bytes", lambda devices: 1)
    build(load_config(SPEC, tiny))


def test_remat_and_micro_batches_need_less(monkeypatch, pytestconfig):
    plain = estimate(monkeypatch)
    monkeypatch.chdir(pytestconfig.rootpath)
    assert estimate(monkeypatch, "--config.model.remat=true") < plain
    monkeypatch.chdir(pytestconfig.rootpath)
    assert estimate(monkeypatch, "--config.optimizer.accumulate=4") < plain


def test_what_is_split_over_devices_counts_once(monkeypatch, pytestconfig):
    wide = "--config.model.head_features=(4096,)"
    plain = estimate(monkeypatch, wide)
    monkeypatch.chdir(pytestconfig.rootpath)
    spread = estimate(monkeypatch, wide, "--config.parallel.shard_optimizer=true")
    monkeypatch.chdir(pytestconfig.rootpath)
    split = estimate(monkeypatch, wide, "--config.parallel.model=4")
    assert max(split, spread) < plain


def test_frozen_layers_keep_nothing(monkeypatch, pytestconfig):
    plain = estimate(monkeypatch)
    monkeypatch.chdir(pytestconfig.rootpath)
    assert estimate(monkeypatch, "--config.optimizer.frozen=('conv.*',)") < plain


def test_a_processor_tells_its_memory():
    devices = jax.local_devices()
    assert 2**28 < memory.device_bytes(devices) < memory.device_bytes(devices[:1])
