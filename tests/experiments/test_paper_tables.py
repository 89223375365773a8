"""The paper's tables: published figures as read, those computed here, and empty cells."""

import csv
import json

import pytest

from experiments.paper_tables.measured import evaluations, parse_weights
from experiments.paper_tables.run import main
from experiments.paper_tables.tables import read_tables
from vgg_jax.errors import UserError


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
    assert "Here: 50 images of val." in (out / "table_05.md").read_text()
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
