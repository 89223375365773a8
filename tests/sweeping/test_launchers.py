"""Devices are dealt out, and every run that is handed in ends once."""

import jax
import pytest

from vgg_jax.errors import UserError
from vgg_jax.sweeping import launchers
from vgg_jax.sweeping.execution import Outcome


@pytest.mark.parametrize(
    ("at_once", "each", "visible", "expected", "memory"),
    [
        (None, 1, None, ["0", "1", "2", "3"], None),
        (None, 2, "4,5,6,7", ["4,5", "6,7"], None),
        (1, 3, None, ["0,1,2"], None),
        (6, 1, None, ["0", "1", "2", "3", "0", "1"], "0.450"),
        (3, 4, None, ["0,1,2,3"] * 3, "0.300"),
    ],
)
def test_gpus_are_dealt_out_and_shared(monkeypatch, at_once, each, visible, expected, memory):
    fraction = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    monkeypatch.setattr(launchers, "_devices_at_hand", lambda: ("gpu", 4))
    monkeypatch.delenv(fraction, raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = launchers.device_slots(at_once, each)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == expected
    assert {slot.get(fraction) for slot in slots} == {memory}
    monkeypatch.setenv(fraction, "0.1")  # set by the user, and passed on as it is
    assert all(fraction not in slot for slot in launchers.device_slots(at_once, each))
    with pytest.raises(UserError, match="a run of 5 GPUs does not fit on 4"):
        launchers.device_slots(None, 5)


def test_a_processor_is_left_whole(monkeypatch):
    backend, count = launchers._devices_at_hand()
    assert (backend, count) == (jax.default_backend(), jax.local_device_count())
    monkeypatch.setattr(launchers, "_devices_at_hand", lambda: ("cpu", 4))
    assert launchers.device_slots(None, 1) == [{}]
    assert launchers.device_slots(3, 1) == [{}] * 3
    with pytest.raises(UserError, match="deals out GPUs, and this machine has a cpu"):
        launchers.device_slots(None, 2)


def test_a_backend_that_does_not_start_is_told_in_a_line(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    with pytest.raises(UserError, match=r"JAX finds no devices here: .*abacus") as error:
        launchers.device_slots(None, 1)
    assert len(str(error.value).splitlines()) == 1


def test_every_run_ends_once_on_fewer_slots_than_runs(trials, store):
    for trial in trials:
        store(trial)
    launcher = launchers.LocalLauncher([{}, {}])
    launcher.start(trials, retries=0)
    ended = []
    for _ in trials:  # a poll returns as soon as one ends
        ended += launcher.poll(10)
    assert sorted(trial.name for trial, _ in ended) == sorted(trial.name for trial in trials)
    assert {outcome for _, outcome in ended} == {Outcome("finished", 0)}
    assert launcher.poll(0) == []


def test_a_stopped_launcher_starts_no_run(trials):
    launcher = launchers.LocalLauncher([{}])
    launcher.stop()
    launcher.stop()  # a second time is nothing new
    launcher.start(trials, retries=3)
    ended = []
    for _ in trials:  # a poll returns as soon as one ends
        ended += launcher.poll(10)
    assert {outcome for _, outcome in ended} == {Outcome("stopped", 0)}
    assert not any((trial.workdir / "log.txt").exists() for trial in trials)
