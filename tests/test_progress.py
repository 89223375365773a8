"""Progress in a log: plain lines with the time left; nothing if it is off."""

import sys
import types

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


class Kernel:
    """What IPython's shell looks like in a notebook."""

    kernel = object()


@pytest.mark.parametrize("widgets", [True, False])
def test_a_bar_in_a_notebook(capsys, monkeypatch, widgets):
    made = []

    class Bar(progress.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    notebook = types.SimpleNamespace(tqdm_notebook=Bar)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=Kernel))
    monkeypatch.setitem(sys.modules, "tqdm.notebook", notebook)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: widgets or None)
    shown = Progress(0, 4, enabled=True)
    shown.advance()
    shown.report(1, VALUES)
    shown.close()
    out, err = capsys.readouterr()
    assert len(made) == widgets
    assert "1/4" in err
    assert "loss 2.3026" in err
    assert out == ""


def test_ipython_on_a_terminal_is_no_notebook(monkeypatch):
    shell = types.SimpleNamespace(get_ipython=object)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert not progress.in_notebook()
