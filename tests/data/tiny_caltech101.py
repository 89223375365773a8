"""A tiny archive in the form of Caltech-101's: three classes of a colour each, three splits."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")
SPLITS = 3
TRAIN, TEST = 3, 2  # photos per class; each split leaves one photo per class out


def write_archive(path: Path) -> Path:
    """Writes the archive, and returns its path."""
    rng = np.random.default_rng(0)
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for channel, name in enumerate(CLASSES):
            files = [f"{name}/image_{number:04}.jpg" for number in range(TRAIN + TEST + 1)]
            for number, file in enumerate(files):
                pixels = rng.integers(0, 60, (32, 40 if number % 2 else 70, 3), np.uint8)
                pixels[..., channel] += 150
                encoded = io.BytesIO()
                Image.fromarray(pixels).save(encoded, "JPEG")
                archive.writestr(file, encoded.getvalue())
            for split in range(SPLITS):
                order = np.random.default_rng(split).permutation(files)
                parts = ["train"] * TRAIN + ["test"] * TEST
                rows += [(split, *row) for row in zip(parts, order, strict=False)]
        table = io.StringIO()
        csv.writer(table).writerows([("split", "part", "file"), *rows])
        archive.writestr("splits.csv", table.getvalue())
    return path
