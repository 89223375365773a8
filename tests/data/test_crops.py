"""Examples at the size that is fed: resized in memory, cropped at the centre or at random."""

import numpy as np
import pytest

from tests.data.conftest import assert_same, center_crop, numbered
from vgg_jax.data.arrays import ArraySource
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline
from vgg_jax.data.preprocessing import resize_shortest
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError


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
