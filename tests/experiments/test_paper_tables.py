"""The paper's tables: published figures as read, those computed here, and empty cells."""

import csv
import json

import cv2
import jax
import numpy as np
import pytest

from experiments.paper_tables.measured import evaluations, parse_weights
from experiments.paper_tables.run import main
from experiments.paper_tables.tables import read_tables
from vgg_jax.data.folder import open_folder
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.evaluation.accuracy import measure_accuracy
from vgg_jax.models import build_model
from vgg_jax.training.state import init_variables
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights, save_weights


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The tables, written after one evaluation was stored."""
    folder = tmp_path_factory.mktemp("tables")
    tables = read_tables()
    wanted = dict(evaluations(tables[5]))
    result = {"top1": 0.75, "top5": 0.875, "examples": 50, "dataset": "val"}
    (folder / "measured.json").write_text(json.dumps({wanted["E", "both"].name: result}))
    assert main([f"--out={folder}"]) == 0
    return folder


def rows(out, number):
    with (out / f"table_{number:02d}.csv").open() as file:
        return list(csv.DictReader(file))


def test_table_1_computed_equals_the_published_one(out):
    for row in rows(out, 1):
        for net in ("A", "A-LRN", "B", "C", "D", "E"):
            assert row[f"{net}, here"] == row[f"{net}, paper"], row


def test_table_2_rounds_to_the_published_millions(out):
    for row in rows(out, 2):
        assert row["parameters [M], here"].split()[0] == row["parameters [M], paper"]


def test_cells_without_a_run_are_empty_and_marked(out):
    assert all(row["top-1 error [%], here"] == "" for row in rows(out, 3))
    assert "| D | 256-512 | 384 | 25.6 / - | 8.1 / - |" in (out / "table_03.md").read_text()
    assert "No run here yet." in (out / "table_03.md").read_text()


def test_a_stored_run_fills_its_cell_and_its_place_in_table_7(out):
    assert "| E | both | 24.4 / 25.0 | 7.1 / 12.5 |" in (out / "table_05.md").read_text()
    assert "Here: 50 images of val. These are not the 50,000" in (out / "table_05.md").read_text()
    line = "| VGG (1 net, multi-crop & dense) | 24.4 / 25.0 | 7.1 / 12.5 | 7.0 / - |"
    assert line in (out / "table_07.md").read_text()


def test_latex_escapes_and_closes(out):
    text = (out / "table_07.tex").read_text()
    assert r"VGG (2 nets, multi-crop \& dense) & 23.7 / - & 6.8 / - & 6.8 / - \\" in text
    assert text.count("{") == text.count("}")
    assert r"\end{table}" in text


def test_seven_nets_made_the_submission():
    (seven, *_) = dict(evaluations(read_tables()[6])).values()
    assert len(seven.nets) == 7
    assert ("D@256", (224, 256, 288)) in seven.nets


@pytest.mark.parametrize("argument", ["D", "F=x", "D@300=x", "D=nowhere.safetensors"])
def test_mistyped_weights(argument):
    with pytest.raises(UserError, match="--weights"):
        parse_weights([argument])


def test_weights_need_images(tmp_path):
    (tmp_path / "w").touch()
    with pytest.raises(UserError, match="--data_dir"):
        main(["--weights", f"D={tmp_path / 'w'}"])


@pytest.fixture(scope="module")
def weights_and_images(tmp_path_factory):
    """Two small nets of two classes, and two random photos."""
    root = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "val" / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "val" / name / "0.png"), pixels)
    model = build_model(
        {"stages": ("3-4", "3-4", "3-4", "3-4", "3-4"), "head_features": (4, 4), "num_classes": 2},
        image_size=64,
    )
    for seed, net in enumerate("DE"):
        variables = jax.jit(lambda seed=seed: init_variables(model, seed, 64))()
        preprocessing = Preprocessing(64, 64, (120.0,) * 3, (60.0,) * 3)
        saved = Weights(model, variables, preprocessing, ("cat", "dog"))
        save_weights(root / f"{net}.safetensors", saved)
    return root


def test_tables_are_measured_on_the_weights_and_images_given(weights_and_images, tmp_path, capsys):
    root = weights_and_images
    files = {net: root / f"{net}.safetensors" for net in "DE"}
    arguments = ["--tables", "3", "6", f"--data_dir={root / 'val'}", f"--out={tmp_path}"]
    arguments += ["--weights", *(f"{net}={file}" for net, file in files.items())]
    assert main(arguments) == 0
    assert "2 images" in capsys.readouterr().out
    source = open_folder(str(root / "val"), "", ())
    loaded = [load_weights(str(file)) for file in files.values()]

    expected = measure_accuracy(loaded[:1], source, dataset="val", protocol="dense", scales=(384,))
    row = next(r for r in rows(tmp_path, 3) if (r["net"], r["S"]) == ("D", "256-512"))
    assert row["top-1 error [%], here"] == f"{100 * (1 - expected['top1']):.1f}"
    others = [r for r in rows(tmp_path, 3) if r["S"] != "256-512"]
    assert all(r["top-1 error [%], here"] == "" for r in others)

    both = measure_accuracy(loaded, source, dataset="val", protocol="both", scales=(256, 384, 512))
    row = next(r for r in rows(tmp_path, 6) if r["protocol"] == "both")
    assert row["top-1 val. error [%], here"] == f"{100 * (1 - both['top1']):.1f}"
    assert row["top-5 test error [%], here"] == ""
    stored = json.loads((tmp_path / "measured.json").read_text())
    assert {result["examples"] for result in stored.values()} == {2}
    ensemble = next(name for name in stored if name.startswith("both: D") and "; E" in name)
    assert stored[ensemble]["loss"] == pytest.approx(both["loss"], rel=1e-5)
    assert all("versions" in result for result in stored.values())

    # Again: nothing is measured anew.
    assert main(arguments) == 0
    assert ": 2 images\n" not in capsys.readouterr().out
