"""How far a sweep has got: a table on a terminal, lines in a log."""

import fcntl
import io
import re

import pytest
from rich.console import Console

from vgg_jax.sweeping.display import Display
from vgg_jax.sweeping.execution import Outcome


def test_live_table_shows_what_runs_have_written(trials):
    good, _, bad = trials
    for trial in (good, bad):
        trial.workdir.mkdir()
    line = '{"step": 7, "train/loss": 0.5}\n{"step": 8, "eval/top1": 0.25}\n{"st'
    (good.workdir / "metrics.jsonl").write_text(line)
    (bad.workdir / "log.txt").write_text("starting\nerror: no such thing\ntype this\n")
    outcome = Outcome("failed", 2, 2)
    texts = {}
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=100, height=30)
        with Display(trials, console) as display, (good.workdir / ".claim").open("w") as claim:
            fcntl.flock(claim, fcntl.LOCK_EX)
            display.ended(bad, outcome)
            display.refresh()
        texts[terminal] = console.file.getvalue()
    assert re.search(r"good-seed3.*running.*8.*loss 0.5000, top-1 25.00%", texts[True])
    assert re.search(r"good-seed4.*waiting", texts[True])
    assert re.search(r"bad.*failed", texts[True])
    assert texts[False] == (
        "bad: failed, tried 2 times, exit status 2: error: no such thing (1 of 3 ended)\n"
    )


@pytest.fixture
def log(trials):
    """A display that is no terminal, and what it has written."""
    file = io.StringIO()
    with Display(trials, Console(file=file, force_terminal=False)) as display:
        yield display, lambda: file.getvalue().splitlines()


def test_every_end_has_a_line_in_the_log(trials, store, log):
    display, lines = log
    one, two, bad = trials
    store(one, {"step": 7, "train/loss": 0.125}, {"step": 8, "eval/top1": 0.5})
    display.ended(one, Outcome("finished", 1, 0))
    store(two, {"step": 7, "train/loss": 0.125}, exit_reason="SIGTERM")
    display.ended(two, Outcome("stopped", 1, 0))
    display.ended(bad, Outcome("failed", 1, 139))  # before it wrote a word
    display.refresh()  # says nothing more
    assert lines() == [
        "good-seed3: finished, loss 0.1250, top-1 50.00% (1 of 3 ended)",
        "good-seed4: stopped (2 of 3 ended)",
        "bad: failed, tried once, exit status 139: nothing was written (3 of 3 ended)",
    ]


def test_a_short_terminal_shows_what_runs_and_what_failed(trials):
    """Of three runs there is room for one: the one that failed, not those that wait."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=7)
    bad = trials[-1]
    bad.workdir.mkdir()
    with Display(trials, console) as display:
        display.ended(bad, Outcome("failed", 1, 2))
    text = console.file.getvalue()
    assert re.search("bad.*failed", text)
    assert "good" not in text
    assert "1 failed, 2 waiting" in text
