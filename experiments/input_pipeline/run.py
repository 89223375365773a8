"""Measures how many photos per second one core decodes, rescales and crops.

    python -m experiments.input_pipeline.run [--preset=NAME] [--photos=DIR] [--out=DIR]

The presets are smallest, quick and full (the default). Writes input_pipeline.csv, a line per way to
decode, and input_pipeline.json, which also has versions and machine.
"""

import csv
import dataclasses
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from sklearn.datasets import load_sample_images

from vgg_jax.cli import run_command
from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.data.preprocessing import open_image, resized_crop
from vgg_jax.data.sources import open_source
from vgg_jax.json_files import write_json
from vgg_jax.runs.experiments import ExperimentParser
from vgg_jax.runs.record import record

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

SHORTEST, CROP = 256, 224
POSITION = (0.3, 0.6)  # of the crop
GRAIN = 8.0  # standard deviation of the noise that brings enlarged photos to the bytes of real ones
PACKAGES = ("pillow", "opencv-python-headless", "grain", "simplejpeg")

Crop = Callable[[bytes], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much is measured.

    Attributes:
      photos: how many of a folder's photos are used.
      repeats: how often each way is timed.
      steps: steps of the training pipeline that are timed.
      sizes: width and height that photos are enlarged to; the pipeline reads the first.
      pngs: number of 32x32 PNGs.
      batch_size: of the training pipeline.
      files: number of files that the training pipeline reads.
      workers: numbers of worker processes of the training pipeline.
    """

    photos: int
    repeats: int
    steps: int
    sizes: tuple[tuple[int, int], ...] = ((500, 375), (2000, 1500))
    pngs: int = 1000
    batch_size: int = 64
    files: int = 256
    workers: tuple[int, ...] = (0, 1, 2)


PRESETS = {
    "smallest": Preset(2, 1, 16, ((500, 375),), pngs=20, batch_size=8, files=16, workers=(0,)),
    "quick": Preset(4, 2, 8),
    "full": Preset(24, 5, 16),
}


def pillow(encoded: bytes, *, scaled: bool) -> np.ndarray:
    """The way of this project: antialiased bilinear, only the pixels that the crop keeps."""
    image = open_image(encoded, min_side=SHORTEST if scaled else None)
    return resized_crop(image, SHORTEST, CROP, POSITION)


def pillow_whole(encoded: bytes) -> np.ndarray:
    """The usual way with Pillow: resize the whole image, then crop."""
    image = open_image(encoded)
    scale = SHORTEST / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    resized = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    top, left = (int(p * (n - CROP + 1)) for p, n in zip(POSITION, resized.shape, strict=False))
    return resized[top : top + CROP, left : left + CROP]


def opencv(encoded: bytes, *, scaled: bool, interpolation: int) -> np.ndarray:
    """Cuts out the pixels of the crop, rounded to whole pixels, and resizes them."""
    flag = cv2.IMREAD_COLOR_RGB
    if scaled:
        with Image.open(io.BytesIO(encoded)) as header:
            factor = min(header.size) // SHORTEST
        if factor >= 2:
            flag = cv2.IMREAD_REDUCED_COLOR_4 if factor >= 4 else cv2.IMREAD_REDUCED_COLOR_2
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag)
    if flag != cv2.IMREAD_COLOR_RGB:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return _cut(image, interpolation)


def simplejpeg_scaled(encoded: bytes, *, interpolation: int) -> np.ndarray:
    """Decodes at the smallest n/8 of the size that is large enough; crops as `opencv` does."""
    image = simplejpeg.decode_jpeg(encoded, min_height=SHORTEST, min_width=SHORTEST)
    return _cut(image, interpolation)


def simplejpeg_pillow(encoded: bytes) -> np.ndarray:
    """Decodes by simplejpeg, resizes as this project does."""
    image = Image.fromarray(simplejpeg.decode_jpeg(encoded))
    return resized_crop(image, SHORTEST, CROP, POSITION)


def _cut(image: np.ndarray, interpolation: int) -> np.ndarray:
    scale = min(image.shape[:2]) / SHORTEST
    tops = [
        int(p * (round(n / scale) - CROP + 1)) for p, n in zip(POSITION, image.shape, strict=False)
    ]
    top, left = (round(offset * scale) for offset in tops)
    side = round(CROP * scale)
    window = image[top : top + side, left : left + side]
    return cv2.resize(window, (CROP, CROP), interpolation=interpolation)


def methods() -> dict[str, Crop]:
    """Returns the ways to get a crop, by name; the first is the reference."""
    found: dict[str, Crop] = {
        "Pillow, whole resize": pillow_whole,
        "Pillow, crop only": lambda e: pillow(e, scaled=False),
        "Pillow, crop only, scaled decode": lambda e: pillow(e, scaled=True),
        "OpenCV, area": lambda e: opencv(e, scaled=False, interpolation=cv2.INTER_AREA),
        "OpenCV, area, scaled decode": lambda e: opencv(
            e, scaled=True, interpolation=cv2.INTER_AREA
        ),
        "OpenCV, bilinear without antialiasing": lambda e: opencv(
            e, scaled=False, interpolation=cv2.INTER_LINEAR
        ),
    }
    if simplejpeg is None:
        print("simplejpeg is not installed, so it is not measured (pip install simplejpeg)")
        return found
    return found | {
        "simplejpeg, Pillow crop only": simplejpeg_pillow,
        "simplejpeg scaled decode, OpenCV area": lambda e: simplejpeg_scaled(
            e, interpolation=cv2.INTER_AREA
        ),
        "simplejpeg scaled decode, OpenCV bilinear": lambda e: simplejpeg_scaled(
            e, interpolation=cv2.INTER_LINEAR
        ),
    }


def cpu_seconds(ways: dict[str, Crop], files: list[bytes], repeats: int) -> dict[str, list[float]]:
    """Runs each way over all files, in turn, and returns the CPU seconds of each run."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(1 + repeats):
        for name, way in ways.items():
            started = time.process_time()
            for encoded in files:
                way(encoded)
            if repeat:  # the first run warms up
                seconds[name].append(time.process_time() - started)
    return seconds


def row(subject: str, method: str, count: int, seconds: list[float], **more: object) -> dict:
    """Returns a row of the table: images per second and core, median and range."""
    rates = [count / value for value in seconds]
    return {
        "subject": subject,
        "method": method,
        "images_per_core_second": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        **more,
    }


def photos(folder: Path | None, count: int) -> list[Image.Image]:
    """Returns photos of a folder, or the two that come with scikit-learn."""
    if folder is None:
        return [Image.fromarray(image) for image in load_sample_images().images]
    return [open_image(path) for path in sorted(folder.rglob("*.jpg"))[:count]]


def enlarged(images: list[Image.Image], size: tuple[int, int]) -> list[bytes]:
    """Returns JPEGs of the images at a size, with grain so that they compress as photos do."""
    rng = np.random.default_rng(0)
    files = []
    for image in images:
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
        pixels = pixels + rng.normal(0, GRAIN, (*pixels.shape[:2], 1))
        files.append(_encoded(np.clip(pixels, 0, 255).astype(np.uint8), "JPEG", quality=90))
    return files


def _encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def measure_crops(files: dict[str, list[bytes]], repeats: int) -> list[dict]:
    """Measures every method on every set of files."""
    ways = methods()
    reference, *_ = ways.values()
    rows = []
    for subject, encoded in files.items():
        seconds = cpu_seconds(ways, encoded, repeats)
        kilobytes = round(sum(map(len, encoded)) / len(encoded) / 1000)
        for name, way in ways.items():
            differences = [np.abs(way(e).astype(int) - reference(e)).mean() for e in encoded]
            difference = round(float(np.mean(differences)), 2)
            rows.append(
                row(subject, name, len(encoded), seconds[name], kilobytes=kilobytes,
                    mean_difference=difference)
            )  # fmt: skip
    return rows


def measure_small_pngs(count: int, repeats: int) -> list[dict]:
    """Measures the decode of 32x32 PNGs, which is how TFDS stores CIFAR-10."""
    rng = np.random.default_rng(0)
    smooth = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(count)]
    files = [_encoded(np.asarray(image.resize((32, 32))), "PNG") for image in smooth]
    ways: dict[str, Crop] = {
        "Pillow": lambda e: np.asarray(open_image(e)),
        "OpenCV": lambda e: cv2.imdecode(np.frombuffer(e, np.uint8), cv2.IMREAD_COLOR_RGB),
    }
    seconds = cpu_seconds(ways, files, repeats)
    return [row("32x32 PNG", name, len(files), seconds[name]) for name in ways]


def measure_pipeline(encoded: list[bytes], preset: Preset) -> list[dict]:
    """Measures the whole training pipeline at several numbers of workers.

    Counts the CPU seconds of this process and its workers: those of a long run minus those of a
    short one, so that starting the workers does not count.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(preset.files):
            path = Path(folder, "train", str(number % 8), f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded[number % len(encoded)])
        for workers in preset.workers:
            data = ConfigDict(
                {
                    "source": "folder",
                    "dir": folder,
                    "train_split": "train",
                    "eval_split": "train",
                    "image_size": CROP,
                    "batch_size": preset.batch_size,
                    "augment": "scale_crop",
                    "on_error": "raise",
                    "scale": (256, 512),
                    "workers": workers,
                }
            )
            pipeline = TrainPipeline(open_source(data, "train"), data, seed=0)
            seconds = [
                _consumed(pipeline, 4 + preset.steps) - _consumed(pipeline, 4)
                for _ in range(preset.repeats)
            ]
            method = f"{workers} worker processes" if workers else "threads"
            size = f"{preset.sizes[0][0]}x{preset.sizes[0][1]}"
            count = preset.batch_size * preset.steps
            rows.append(row(f"TrainPipeline, {size}, S in 256..512", method, count, seconds))
    return rows


def _consumed(pipeline: TrainPipeline, steps: int) -> float:
    """Returns the CPU seconds, workers included, of a number of steps."""

    def now() -> float:
        usages = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    started = now()
    for _ in pipeline.iterate(0, steps):
        pass
    return now() - started


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(
        __file__, __doc__, presets=[*PRESETS], default_preset="full", redraw=False
    )
    parser.add_argument(
        "--photos", type=Path, help="folder of photos (default: scikit-learn's two)"
    )
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    preset = PRESETS[options.preset]

    images = photos(options.photos, preset.photos)
    files = {"as they are": [_encoded(np.asarray(i), "JPEG", quality=92) for i in images]}
    files |= {f"{size[0]}x{size[1]}": enlarged(images, size) for size in preset.sizes}
    rows = measure_crops(files, preset.repeats) + measure_small_pngs(preset.pngs, preset.repeats)
    rows += measure_pipeline([*files.values()][1], preset)

    options.out.mkdir(parents=True, exist_ok=True)
    described = record(parser.module, argv, PACKAGES)
    write_json(
        options.out / "input_pipeline.json", {"photos": len(images), "rows": rows} | described
    )
    with (options.out / "input_pipeline.csv").open("w", newline="") as file:
        names = dict.fromkeys(name for each in rows for name in each)
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for each in rows:
        rate = each["images_per_core_second"]
        print(f"{each['subject']:38} {each['method']:42} {rate:9.1f} images per second and core")
    return 0


if __name__ == "__main__":
    run_command(main)
