import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import assert_same, numbered
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline, epoch_permutation
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError


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

            def _batch(self, step):
                self.made += 1
                return super()._batch(step)

        pipeline = Counting(numbered(10), data_config(), seed=0)
        batches = pipeline.iterate(0, 100)
        next(batches)
        deadline = time.monotonic() + 10
        while pipeline.made < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pipeline.made == 3  # the one taken, and two ahead
        batches.close()


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
