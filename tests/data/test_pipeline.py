import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import center_crop
from vgg_jax.data.arrays import ArraySource
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline, epoch_permutation
from vgg_jax.data.preprocessing import resize_shortest
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError


def numbered(count, size=8):
    """A source whose example i is an image of value i with label i."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, size, size, 3)
    )
    return ArraySource(images, np.arange(count, dtype=np.int32), tuple(map(str, range(count))))


def assert_same(left, right):
    assert left.keys() == right.keys() == {"image", "label", "mask"}
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])
        assert left[name].dtype == right[name].dtype


class TestTrainOrder:
    def test_batch_has_the_contracts_shapes(self, data_config):
        batch = TrainPipeline(numbered(10), data_config(), seed=0).batch(3)
        assert batch["image"].shape == (4, 8, 8, 3)
        assert batch["image"].dtype == np.uint8
        assert batch["label"].dtype == np.int32
        assert batch["mask"].dtype == bool
        assert batch["mask"].all()
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])

    @pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (7, 1)])
    def test_every_example_once_an_epoch(self, data_config, count, batch_size):
        pipeline = TrainPipeline(numbered(count), data_config(batch_size=batch_size), seed=0)
        steps = -(-3 * count // batch_size)
        stream = np.concatenate([pipeline.batch(step)["label"] for step in range(steps)])
        epochs = stream[: 3 * count].reshape(3, count)
        for epoch in epochs:
            np.testing.assert_array_equal(np.sort(epoch), np.arange(count))
        assert pipeline.batches_per_epoch == count / batch_size
        assert pipeline.num_examples == count

    def test_order_depends_on_seed_and_epoch(self):
        orders = {tuple(epoch_permutation(seed, epoch, 20)) for seed in (0, 1) for epoch in (0, 1)}
        assert len(orders) == 4

    def test_order_is_the_one_of_earlier_versions(self):
        # A change means that runs cannot be continued: say so in the changelog, or undo it.
        np.testing.assert_array_equal(epoch_permutation(0, 0, 8), [3, 6, 4, 0, 7, 5, 2, 1])
        np.testing.assert_array_equal(epoch_permutation(7, 123, 8), [5, 0, 6, 4, 2, 7, 3, 1])

    def test_any_step_alone(self, data_config):
        pipeline = TrainPipeline(numbered(10), data_config(), seed=3)
        forward = [pipeline.batch(step) for step in range(12)]
        fresh = TrainPipeline(numbered(10), data_config(), seed=3)
        for step in (11, 0, 7, 2):
            assert_same(fresh.batch(step), forward[step])
        far = fresh.batch(10**9)  # of epoch 4e8
        assert len(far["label"]) == 4

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_processes_unite_to_the_global_batch(self, data_config, count):
        config = data_config(batch_size=8)
        whole = TrainPipeline(numbered(11), config, seed=0)
        parts = [
            TrainPipeline(numbered(11), config, seed=0, process_index=index, process_count=count)
            for index in range(count)
        ]
        for step in range(5):
            batches = [part.batch(step) for part in parts]
            united = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
            assert_same(united, whole.batch(step))

    def test_batch_must_divide_among_processes(self, data_config):
        with pytest.raises(UserError, match="batch of 4 cannot be divided among 3 processes"):
            TrainPipeline(numbered(10), data_config(), seed=0, process_count=3)


class TestIterate:
    def test_yields_the_steps_asked_for(self, data_config):
        pipeline = TrainPipeline(numbered(10), data_config(), seed=0)
        batches = list(pipeline.iterate(5, 9))
        assert len(batches) == 4
        for step, batch in zip(range(5, 9), batches, strict=True):
            assert_same(batch, pipeline.batch(step))
        assert list(pipeline.iterate(5, 5)) == []

    def test_closing_ends_the_thread(self, data_config):
        pipeline = TrainPipeline(numbered(10), data_config(), seed=0)
        batches = pipeline.iterate(0, 10**9)
        next(batches)
        assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
        batches.close()
        assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())

    def test_runs_ahead(self, data_config):
        class Counting(TrainPipeline):
            made = 0

            def batch(self, step):
                self.made += 1
                return super().batch(step)

        pipeline = Counting(numbered(10), data_config(), seed=0)
        batches = pipeline.iterate(0, 100)
        next(batches)
        deadline = time.monotonic() + 10
        while pipeline.made < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pipeline.made == 3  # the one taken, and two ahead
        batches.close()


class TestSizes:
    def test_memory_is_resized_once_at_the_start(self, data_config):
        source = open_source(data_config(), "test")
        pipeline = EvalPipeline(source, data_config(image_size=32), batch_size=100)
        assert pipeline.crop == "centre crop 32 of shortest side 32"
        for start, batch in zip(range(0, 400, 100), pipeline, strict=True):
            for image, resized in zip(source.images[start:], batch["image"], strict=False):
                np.testing.assert_array_equal(resize_shortest(image, 32), resized)

    def test_memory_that_fits_is_not_copied(self, data_config):
        source = numbered(10)
        pipeline = TrainPipeline(source, data_config(), seed=0)
        assert pipeline.in_memory()["image"] is source.images

    def test_large_results_are_made_a_batch_at_a_time(self, data_config, monkeypatch):
        source = open_source(data_config(), "test")
        config = data_config(image_size=16)
        in_memory = TrainPipeline(source, config, seed=0).batch(5)
        monkeypatch.setattr("vgg_jax.data.crops.IN_MEMORY_BYTES", 1000)
        one_by_one = TrainPipeline(source, config, seed=0)
        assert_same(one_by_one.batch(5), in_memory)
        with pytest.raises(UserError, match="in memory"):
            one_by_one.in_memory()

    def test_files_are_resized_and_cropped_at_the_centre(self, data_config, photo_folder):
        config = data_config(
            source="folder", dir=str(photo_folder), eval_split="val", image_size=12, eval_resize=16
        )
        source = open_source(config, "val")
        pipeline = EvalPipeline(source, config, batch_size=6)
        assert pipeline.crop == "centre crop 12 of shortest side 16"
        batch = pipeline.batch(0)
        for index in range(6):
            expected = center_crop(resize_shortest(source[index]["image"], 16), 12)
            assert np.abs(batch["image"][index].astype(int) - expected).max() <= 1

    def test_crop_must_fit(self, data_config, photo_folder):
        config = data_config(source="folder", dir=str(photo_folder), image_size=12)
        source = open_source(config, "train")
        with pytest.raises(UserError, match=r"eval_resize=8 is below data\.image_size=12"):
            EvalPipeline(source, config, batch_size=4)
        for scale in ((8, 16), (20, 16)):
            with config.ignore_type():
                config.update(augment="scale_crop", scale=scale)
            with pytest.raises(UserError, match=r"data\.scale=.*must be a range"):
                TrainPipeline(source, config, seed=0)


class TestScaleCrop:
    """The slope of a ramp tells the scale of a crop, its first value the offset."""

    SIZE = 16

    def crops(self, data_config, scale, seed=0, steps=40):
        ramp = np.broadcast_to(
            np.arange(128, dtype=np.uint8)[None, None, :, None], (1, 128, 128, 3)
        )
        source = ArraySource(ramp * 2, np.zeros(1, np.int32), ("ramp",))
        config = data_config(augment="scale_crop", scale=scale, image_size=self.SIZE, batch_size=8)
        pipeline = TrainPipeline(source, config, seed=seed)
        return np.concatenate([pipeline.batch(step)["image"] for step in range(steps)])

    def scales(self, crops):
        rows = crops[:, 8, :, 0].astype(float)
        return 256 * (self.SIZE - 5) / (rows[:, -3] - rows[:, 2])  # edges are clipped

    def test_fixed_scale(self, data_config):
        scales = self.scales(self.crops(data_config, (32, 32), steps=4))
        np.testing.assert_allclose(scales, 32, rtol=0.03)

    def test_jittered_scale_covers_the_range(self, data_config):
        scales = self.scales(self.crops(data_config, (32, 64)))
        assert scales.min() == pytest.approx(32, rel=0.04)
        assert scales.max() == pytest.approx(64, rel=0.04)
        assert scales.mean() == pytest.approx(48, rel=0.04)

    def test_offsets_cover_the_image(self, data_config):
        crops = self.crops(data_config, (32, 32))
        lefts = np.unique(crops[:, 8, 0, 0])
        assert len(lefts) == 17  # 32 - 16 + 1 places
        assert lefts.min() < 8
        assert crops.max() > 248

    def test_depends_on_seed_and_position(self, data_config):
        one, same, other = (
            self.crops(data_config, (32, 64), seed=seed, steps=1) for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()
        assert len({crop.tobytes() for crop in one}) == 8


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
                    batch_size=4, workers=1,
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


class TestEval:
    @pytest.mark.parametrize("processes", [1, 2, 4])
    @pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (13, 4)])
    def test_every_example_once(self, data_config, count, batch_size, processes):
        source = numbered(count)
        pipelines = [
            EvalPipeline(
                source,
                data_config(),
                batch_size=batch_size,
                process_index=index,
                process_count=processes,
            )
            for index in range(processes)
        ]
        seen = []
        for batches in zip(*pipelines, strict=True):
            for batch in batches:
                assert batch["image"].shape == (batch_size // processes, 8, 8, 3)
                assert not batch["image"][~batch["mask"]].any()
                assert not batch["label"][~batch["mask"]].any()
                seen += list(batch["label"][batch["mask"]])
                np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])
        assert seen == list(range(count))
        assert pipelines[0].num_examples == count
        assert len(pipelines[0]) == -(-count // batch_size)

    def test_can_be_read_again(self, data_config):
        pipeline = EvalPipeline(numbered(10), data_config(), batch_size=4)
        for left, right in zip(pipeline, pipeline, strict=True):
            assert_same(left, right)


def test_vgg_sized_photos(data_config, shared_data):
    config = data_config(
        source="folder",
        dir=str(shared_data / "photos"),
        train_split="",
        eval_split="",
        image_size=224,
        augment="scale_crop",
        scale=(256, 512),
        eval_resize=256,
    )
    source = open_source(config, "")
    batch = TrainPipeline(source, config, seed=0).batch(0)
    assert batch["image"].shape == (4, 224, 224, 3)
    assert batch["image"].std() > 20
    with Image.open(source.path(0)) as image:
        resized = image.resize((256, 256), Image.Resampling.BILINEAR)
    batch = EvalPipeline(source, config, batch_size=2).batch(0)
    difference = batch["image"][0].astype(int) - np.asarray(resized)[16:240, 16:240]
    assert np.abs(difference).max() <= 1
