"""The command line that experiments share, and results that are measured once."""

import json

import pytest

from vgg_jax.errors import UserError
from vgg_jax.runs.experiments import ExperimentParser, measured_once, stored

FILE = "experiments/name/run.py"


def test_module_and_folders_come_from_the_file():
    parser = ExperimentParser(FILE, None, presets=["quick", "full"], folder_per_preset=True)
    assert parser.module == "experiments.name.run"
    assert parser.parse_args(["--preset=full"]).out == parser.results / "full"
    assert ExperimentParser(FILE, None).parse_args([]).out == parser.results
    assert str(parser.parse_args(["--out=here"]).out) == "here"


def test_other_names_of_redraw():
    parser = ExperimentParser(FILE, None, redraw_options=["--tables"], redraw_word=("what", "map"))
    parser.add_argument("what", nargs="?", choices=["train", "map"], default="train")
    assert not parser.parse_args([]).redraw
    for arguments in (["--redraw"], ["--tables"], ["map"]):
        assert parser.parse_args(arguments).redraw
    with pytest.raises(UserError, match="--redraw"):
        ExperimentParser(FILE, None, redraw=False).parse_args(["--redraw"])


def test_what_is_stored_is_not_measured_again(tmp_path):
    path = tmp_path / "new" / "cell.json"
    with pytest.raises(UserError, match="run without --redraw first"):
        stored(path)
    assert measured_once(path, lambda: {"value": 1}) == {"value": 1}
    assert measured_once(stored(path), lambda: pytest.fail("measured again")) == {"value": 1}
    assert json.loads(path.read_text()) == {"value": 1}
