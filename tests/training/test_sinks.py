"""Files of numbers: complete after each write, and without what is made again."""

import json
import os
import subprocess
import sys

import pytest

from tests.short_runs import shown_by_tensorboard
from vgg_jax.runs.directory import StorageError
from vgg_jax.training.sinks import Events, JsonLines, Sink


def test_a_line_is_there_when_it_was_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n')
    lines: Sink = JsonLines(tmp_path, [{"step": 1, "a": 1.0}])
    lines.write(2, {"a": 3.0, "b": 4.0})
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert written == [{"step": 1, "a": 1.0}, {"step": 2, "a": 3.0, "b": 4.0}]
    lines.close()
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("sink", [lambda path: JsonLines(path, []), lambda path: Events(path, 0)])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, sink):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*file/"):
        sink(tmp_path / "file")


def test_events_of_a_second_start_hide_those_of_the_first(tmp_path):
    for start, value in ((0, 1.0), (2, 2.0)):
        events: Sink = Events(tmp_path, start)
        for step in (1, 2, 3):
            if step > start:
                events.write(step, {"a": value, "b": -value})
        events.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert shown_by_tensorboard(tmp_path / "tensorboard") == [
        *((1, "a", 1.0), (1, "b", -1.0), (2, "a", 1.0), (2, "b", -1.0)),
        *((3, "a", 2.0), (3, "b", -2.0)),
    ]


def test_pytorch_stays_out_of_the_process(tmp_path):
    """Where it is installed tensorboardX imports it, which takes longer than all else."""
    (tmp_path / "torch.py").touch()
    code = "import sys, vgg_jax.training.sinks; assert 'torch' not in sys.modules; import torch"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, check=True)
