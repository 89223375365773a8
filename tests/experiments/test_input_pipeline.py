"""The speed of decoding: every way at the smallest size."""

import csv
import json

import cv2
import pytest

from experiments.input_pipeline.run import main


@pytest.fixture(autouse=True)
def _threads():
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def test_measures_every_way(tmp_path):
    assert main(["--preset=smallest", f"--out={tmp_path}"]) == 0
    stored = json.loads((tmp_path / "input_pipeline.json").read_text())
    assert stored["photos"] == 2  # those of scikit-learn
    assert stored["versions"]["pillow"]
    assert stored["command"].startswith("python -m experiments.input_pipeline.run")
    with (tmp_path / "input_pipeline.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(stored["rows"])
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    assert subjects == [
        "as they are",
        "500x375",
        "32x32 PNG",
        "TrainPipeline, 500x375, S in 256..512",
    ]
    assert all(float(row["images_per_core_second"]) > 0 for row in rows)
    assert all(float(row["lowest"]) <= float(row["highest"]) for row in rows)
    differences = {row["method"]: float(row["mean_difference"] or 0) for row in rows}
    assert differences["Pillow, whole resize"] == 0  # the reference
    assert 0 < differences["OpenCV, bilinear without antialiasing"] < 20  # grey levels
