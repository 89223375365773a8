"""Progress in a log: plain lines with the time left; nothing if it is off."""

import pytest

from vgg_jax import progress
from vgg_jax.progress import Progress

VALUES = {"train/loss": 2.302585, "train/top1": 0.125, "train/images_per_second": 1234.56}


def test_lines_of_a_log(capsys, monkeypatch):
    clock = iter([100.0, 130.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    shown = Progress(10, 110, enabled=True)
    shown.advance()
    shown.report(40, VALUES)  # 30 steps in 30 s, 70 to go
    shown.close()
    assert capsys.readouterr().out == (
        "step 40/110  loss 2.3026  accuracy 12.5%  1234.6 images/s  1:10 left\n"
    )


@pytest.mark.parametrize("call", ["advance", "close"])
def test_nothing_is_shown_if_off(capsys, call):
    shown = Progress(0, 10, enabled=False)
    shown.say("hello")
    shown.report(1, VALUES)
    getattr(shown, call)()
    assert capsys.readouterr() == ("", "")
