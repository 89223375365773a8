"""The times of the convolution's formulations: every one at the smallest size."""

import csv
import json

from experiments.conv_formulations.loops import FORMS
from experiments.conv_formulations.run import DIRECTIONS, FORMULATIONS, main


def test_times_every_formulation_and_redraws(tmp_path):
    assert main(["--preset=smallest", f"--out={tmp_path}"]) == 0
    with (tmp_path / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {formulation.__name__ for formulation in FORMULATIONS}
    assert {(row["direction"], row["formulation"]) for row in rows} == {
        (direction, name) for direction in DIRECTIONS for name in names
    }
    assert all(float(row["gflops"]) > 0 for row in rows)
    assert sum(row["chosen"] == "True" for row in rows) == len(DIRECTIONS)
    # Both are of the same matrix product in rows of one layer and direction.
    for direction in DIRECTIONS:
        of_one = [row for row in rows if row["direction"] == direction]
        products = [float(r["gflops"]) / float(r["fraction_of_product"]) for r in of_one]
        assert max(products) < 1.001 * min(products)
    table = (tmp_path / "table.md").read_text()
    assert table.count("| 2x4x4 | 3 to 4 |") == len(DIRECTIONS)
    command = json.loads((tmp_path / "record.json").read_text())["command"]
    assert command == "python -m experiments.conv_formulations.run --preset=smallest --out=OUT"

    (tmp_path / "table.md").unlink()
    assert main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == table


def test_times_gradients_in_a_loop_and_redraws(tmp_path):
    arguments = ["loops", f"--out={tmp_path}"]
    assert main([*arguments, "--preset=smallest"]) == 0
    with (tmp_path / "loops" / "loops.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["direction"], row["axes"]) for row in rows] == [
        (direction, form) for direction in ("images", "kernel") for form in FORMS
    ]
    assert all(float(row[name]) > 0 for row in rows for name in ("milliseconds", "in_a_loop"))
    table = tmp_path / "loops" / "table.md"
    text = table.read_text()
    assert text.count("| 2x4x4 | 3 |") == 2
    table.unlink()
    assert main([*arguments, "--redraw"]) == 0
    assert table.read_text() == text
