import dataclasses
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import center_crop, encode
from vgg_jax.data.preprocessing import (
    Preprocessing,
    decode_image,
    open_image,
    resize_shortest,
    resized_crop,
)
from vgg_jax.errors import UserError

RNG = np.random.default_rng(0)
PHOTO = np.asarray(  # smooth, as photos are, so that JPEG keeps it
    Image.fromarray(RNG.integers(0, 256, (7, 10, 3), np.uint8)).resize((100, 70))
)


class TestDecode:
    def test_rgb_png_exactly_from_path_and_bytes(self, tmp_path):
        image = RNG.integers(0, 256, (5, 7, 3), np.uint8)
        (tmp_path / "image.png").write_bytes(encode(image))
        for encoded in (encode(image), tmp_path / "image.png", str(tmp_path / "image.png")):
            decoded = decode_image(encoded)
            np.testing.assert_array_equal(decoded, image)
            assert decoded.dtype == np.uint8

    @pytest.mark.parametrize("kind", ["BMP", "WEBP", "TIFF", "PPM"])
    def test_other_formats(self, kind):
        file = io.BytesIO()
        Image.fromarray(PHOTO).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
        np.testing.assert_array_equal(decode_image(file.getvalue()), PHOTO)

    def test_jpeg_closely(self):
        decoded = decode_image(encode(PHOTO, "JPEG"))
        assert np.abs(decoded.astype(int) - PHOTO).mean() < 5

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_grey_is_replicated(self, kind):
        decoded = decode_image(encode(np.full((4, 6), 77, np.uint8), kind))
        np.testing.assert_array_equal(decoded, np.full((4, 6, 3), 77))

    def test_alpha_is_dropped(self):
        image = RNG.integers(0, 256, (5, 7, 4), np.uint8)
        np.testing.assert_array_equal(decode_image(encode(image)), image[..., :3])

    def test_palette(self):
        image = np.repeat(np.repeat(RNG.integers(0, 256, (2, 2, 3), np.uint8), 3, 0), 3, 1)
        file = io.BytesIO()
        Image.fromarray(image).quantize(4, dither=Image.Dither.NONE).save(file, "PNG")
        np.testing.assert_array_equal(decode_image(file.getvalue()), image)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bits_keep_their_share_of_the_range(self, kind):
        decoded = decode_image(encode(np.array([[0, 257 * 100, 65535]], np.uint16), kind))
        np.testing.assert_array_equal(decoded[0, :, 0], [0, 100, 255])

    def test_cmyk_jpeg(self):
        file = io.BytesIO()
        Image.fromarray(PHOTO).convert("CMYK").save(file, "JPEG", quality=95)
        assert np.abs(decode_image(file.getvalue()).astype(int) - PHOTO).mean() < 5

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation):
        stored = np.zeros((4, 6, 3), np.uint8)
        stored[0, 0], stored[0, -1] = (255, 0, 0), (0, 255, 0)  # red top left, green top right
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.fromarray(stored).save(file, "PNG", exif=exif)
        undo = {  # EXIF 2.3, tag 274: where row 0 and column 0 of the stored image are
            1: stored,
            2: stored[:, ::-1],
            3: stored[::-1, ::-1],
            4: stored[::-1],
            5: stored.transpose(1, 0, 2),
            6: np.rot90(stored, -1),
            7: stored[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(stored),
        }
        np.testing.assert_array_equal(decode_image(file.getvalue()), undo[orientation])

    @pytest.mark.parametrize(
        "contents", [b"", b"no image", encode(PHOTO)[:200], encode(PHOTO, "JPEG")[:-500]]
    )
    def test_broken_or_truncated_file_is_named(self, tmp_path, contents):
        path = tmp_path / "broken.jpg"
        path.write_bytes(contents)
        with pytest.raises(UserError, match=r"broken\.jpg"):
            decode_image(path)
        with pytest.raises(UserError, match="example 3"):
            open_image(contents, name="example 3")

    def test_missing_file_is_named(self, tmp_path):
        with pytest.raises(UserError, match=r"absent\.png.*No such file"):
            decode_image(tmp_path / "absent.png")

    def test_min_side_decodes_a_large_jpeg_smaller(self):
        large = np.asarray(Image.fromarray(PHOTO).resize((800, 560)))
        whole, part = (open_image(encode(large, "JPEG"), min_side=side) for side in (None, 100))
        assert whole.size == (800, 560)
        assert part.size == (200, 140)
        difference = np.asarray(part).astype(int) - np.asarray(whole.resize(part.size))
        assert np.abs(difference).mean() < 3


class TestGeometry:
    @pytest.mark.parametrize(("height", "width"), [(70, 100), (100, 70), (40, 40)])
    @pytest.mark.parametrize("size", [20, 96])
    def test_resize_shortest_is_isotropic(self, height, width, size):
        image = np.asarray(Image.fromarray(PHOTO).resize((width, height)))
        resized = resize_shortest(image, size)
        assert min(resized.shape[:2]) == size
        assert resized.shape[0] / resized.shape[1] == pytest.approx(height / width, rel=0.02)
        assert resized.mean() == pytest.approx(image.mean(), abs=2)

    def test_shrinking_averages(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        shrunk = resize_shortest(stripes, 16)
        assert np.abs(shrunk.astype(int) - 127).max() < 24  # sampling alone would give 0 or 255

    @pytest.mark.parametrize("position", [None, (0.0, 0.0), (0.999, 0.999), (0.3, 0.6)])
    @pytest.mark.parametrize(("shortest", "size"), [(32, 32), (48, 32), (90, 80)])
    def test_resized_crop_is_a_crop_of_the_resized(self, shortest, size, position):
        resized = resize_shortest(PHOTO, shortest)
        if position is None:
            expected = center_crop(resized, size)
        else:
            top = int(position[0] * (resized.shape[0] - size + 1))
            left = int(position[1] * (resized.shape[1] - size + 1))
            expected = resized[top : top + size, left : left + size]
        cropped = resized_crop(Image.fromarray(PHOTO), shortest, size, position)
        assert cropped.shape == (size, size, 3)
        assert np.abs(cropped.astype(int) - expected).max() <= 1  # fixed-point rounding

    def test_every_offset_is_reached(self):
        image = Image.fromarray(np.arange(6, dtype=np.uint8)[None, :].repeat(4, 0))
        lefts = {
            int(resized_crop(image.convert("RGB"), 4, 4, (0.0, u))[0, 0, 0])
            for u in np.linspace(0, 0.999, 50)
        }
        assert lefts == {0, 1, 2}


class TestPreprocessing:
    def test_normalize_of_the_paper(self):
        images = RNG.integers(0, 256, (2, 4, 4, 3), np.uint8)
        paper = Preprocessing(256, 224, mean=(123.68, 116.779, 103.939))
        expected = images - np.array([123.68, 116.779, 103.939])
        out = paper.normalize(jnp.asarray(images))
        assert out.dtype == jnp.float32
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-5)

    def test_normalize_of_torchvision_and_keras(self):
        images = RNG.integers(0, 256, (2, 4, 4, 3), np.uint8)
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        torchvision = Preprocessing(256, 224, mean=mean, std=std, scale=1 / 255)
        np.testing.assert_allclose(
            torchvision.normalize(jnp.asarray(images)), (images / 255 - mean) / std, atol=1e-5
        )
        keras = Preprocessing(256, 224, mean=(103.939, 116.779, 123.68), channel_order="BGR")
        np.testing.assert_allclose(
            keras.normalize(jnp.asarray(images)),
            images[..., ::-1] - np.array([103.939, 116.779, 123.68]),
            atol=1e-4,
        )

    def test_survives_json(self):
        one = Preprocessing(256, 224, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
        stored = json.loads(json.dumps(dataclasses.asdict(one)))
        assert Preprocessing(**stored) == one

    def test_load_is_decode_resize_crop(self):
        load = Preprocessing(48, 32, mean=(0.0, 0.0, 0.0)).load
        expected = center_crop(resize_shortest(PHOTO, 48), 32)
        assert np.abs(load(encode(PHOTO)).astype(int) - expected).max() <= 1

    def test_load_equals_the_oracles_protocol(self, shared_data):
        paths = sorted((shared_data / "photos").glob("*/*.jpg"))[::50]
        for path in paths:
            with Image.open(path) as image:
                resized = image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
            expected = np.asarray(resized)[16:240, 16:240].astype(int)
            loaded = Preprocessing(256, 224, mean=(0.0, 0.0, 0.0)).load(path)
            assert np.abs(loaded - expected).max() <= 1
            assert np.mean(loaded != expected) < 1e-3

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"crop": 300}, "cannot crop 300 pixels"),
            ({"channel_order": "BRG"}, "'BRG'.*Known: BGR, RGB"),
        ],
    )
    def test_impossible_values(self, change, message):
        with pytest.raises(UserError, match=f"(?s){message}"):
            Preprocessing(**({"resize": 256, "crop": 224, "mean": (0, 0, 0)} | change))
