"""Batches made ahead, by threads and by worker processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.data.conftest import assert_same
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError


class TestWorkers:
    @pytest.fixture
    def config(self, data_config, photo_folder):
        return data_config(
            source="folder",
            dir=str(photo_folder),
            eval_split="val",
            image_size=12,
            augment="scale_crop",
            scale=(16, 24),
            eval_resize=16,
        )

    @pytest.mark.parametrize("workers", [0, 1, 2])
    def test_same_batches_from_the_middle(self, config, workers):
        source = open_source(config, "train")
        expected = [TrainPipeline(source, config, seed=0).batch(step) for step in range(4, 9)]
        config.workers = workers
        batches = list(TrainPipeline(source, config, seed=0).iterate(4, 9))
        assert len(batches) == 5
        for batch, other in zip(batches, expected, strict=True):
            assert_same(batch, other)

    def test_more_workers_than_batches_and_early_close(self, config):
        source = open_source(config, "val")
        config.workers = 2
        batches = list(EvalPipeline(source, config, batch_size=6))
        assert [batch["mask"].sum() for batch in batches] == [6]
        config.workers = 1
        endless = TrainPipeline(source, config, seed=0).iterate(0, 10**6)
        next(endless)
        endless.close()

    @pytest.mark.parametrize("workers", [0, 1])
    def test_broken_file_is_named(self, config, photo_folder, workers):
        path = photo_folder / "val" / "eel" / "1.jpg"
        path.write_bytes(path.read_bytes()[:100])
        config.workers = workers
        with pytest.raises(UserError, match=f"{path}"):
            list(EvalPipeline(open_source(config, "val"), config, batch_size=2))

    def test_label_beyond_the_classes(self, config, photo_folder):
        source = open_source(config, "val")
        source.labels = source.labels + 2
        with pytest.raises(
            UserError, match="example 3 has label 4, but the data set has 3 classes"
        ):
            list(EvalPipeline(source, config, batch_size=2))

    def test_workers_end_with_a_killed_parent(self, photo_folder):
        script = f"""
            import multiprocessing, time
            from ml_collections import ConfigDict
            from vgg_jax.data.pipeline import TrainPipeline
            from vgg_jax.data.sources import open_source

            if __name__ == "__main__":
                config = ConfigDict(dict(
                    source="folder", dir={str(photo_folder)!r}, train_split="train",
                    eval_split="val", image_size=12, augment="scale_crop", scale=(16, 24),
                    batch_size=4, workers=1, on_error="raise",
                ))
                pipeline = TrainPipeline(open_source(config, "train"), config, seed=0)
                batches = pipeline.iterate(0, 10**6)
                next(batches)
                print(*(child.pid for child in multiprocessing.active_children()), flush=True)
                time.sleep(100)
        """
        path = photo_folder / "endless.py"
        path.write_text(textwrap.dedent(script))
        with subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        ) as parent:
            workers = [int(pid) for pid in parent.stdout.readline().split()]
            parent.send_signal(signal.SIGKILL)
        assert len(workers) == 1
        deadline = time.monotonic() + 20
        while any(map(is_running, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(is_running, workers))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
