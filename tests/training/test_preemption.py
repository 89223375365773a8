"""Signals ask for a stop, whatever comes after them; a second Ctrl-C stops at once."""

import os
import signal
import subprocess
import sys

import pytest

from vgg_jax.training.preemption import StopRequest, exit_at_once

STOPPING = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", STOPPING)
def test_the_first_signal_is_noted_and_others_change_nothing(first):
    with StopRequest() as stop:
        assert stop.received is None
        for number in (first, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.received == first
    os.kill(os.getpid(), signal.SIGTERM)  # what was saved is still to be told


def test_without_a_signal_the_handlers_come_back():
    before = [signal.getsignal(number) for number in STOPPING]
    with StopRequest():
        assert [signal.getsignal(number) for number in STOPPING] != before
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_a_second_ctrl_c_raises_and_a_third_does_not_cut_off_what_it_says():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.received == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == before


def test_a_notebook_lives_on(capsys, monkeypatch):
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with pytest.raises(KeyboardInterrupt), exit_at_once(lambda: "no step is lost"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "stopped at once: no step is lost\n"


def test_leaving_at_once_says_what_is_lost():
    script = (
        "from vgg_jax.training.preemption import exit_at_once\n"
        "import threading\n"
        "threading.Thread(target=threading.Event().wait).start()  # would hold an orderly exit\n"
        "with exit_at_once(lambda: 'the steps 3 to 5 are lost'):\n"
        "    raise KeyboardInterrupt\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 130
    assert result.stderr == "stopped at once: the steps 3 to 5 are lost\n"
