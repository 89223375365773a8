"""What stands in the sections about runs, and about the files beside them."""

import json

import cv2
import numpy as np
import pytest

from tests.reporting.results import read, write_results
from vgg_jax.reporting.sections import (
    beside_published,
    how_to_repeat,
    learning_curves,
    overview,
    result_files,
    runs_section,
)
from vgg_jax.runs.reader import StoredRun, find_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write_results(root)
    return root


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs(folder)


@pytest.fixture
def bare(tmp_path):
    """A run of which nothing but its metrics was kept."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "metrics.jsonl").write_text('{"step": 7, "train/loss": 0.5}\n')
    return StoredRun(tmp_path / "bare")


def table(content: str, columns: int) -> list[list[str]]:
    cells = read(content).cells
    return [cells[i : i + columns] for i in range(0, len(cells), columns)]


def test_overview_has_a_line_for_each_run_and_only_columns_that_say_something(runs, bare):
    header, first, second = table(overview(runs), 11)
    assert {"examples", "images/s"}.isdisjoint(header)  # neither run has them
    one, two = (dict(zip(header, row, strict=True)) for row in (first, second))
    assert (one["run"], one["net"], one["norm"], one["data"]) == (
        *("bn-seed0", "D", "batch"),
        "cifar10",
    )
    assert (one["steps"], one["top-1 last"], one["top-1 best"]) == ("100", "50.00%", "50.00%")
    assert (one["loss"], one["wall"], one["end"]) == ("0.125", "1:02:05", "finished")
    assert (two["loss"], two["wall"], two["end"]) == ("0.1211", "", "not ended")
    assert table(overview([bare]), 4) == [
        ["run", "steps", "loss", "end"],
        ["bare", "7", "0.5", "not ended"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599.4, "59:59"), (3600, "1:00:00")],
)
def test_wall_time_reads_as_a_clock(bare, seconds, text):
    (bare.path / "summary.json").write_text(json.dumps({"wall_seconds": seconds}))
    assert text in read(overview([bare])).cells


def test_published_figures_stand_beside_mean_and_spread_over_seeds(runs):
    content = "".join(beside_published(runs))
    cells = read(content).cells
    row = cells.index("50.00 ± 0.00")
    assert cells[row - 5 : row] == ["D", "batch", "cifar10", "1.0", "epochs: 300"]
    assert cells[row + 1 : row + 4] == ["50.00 ± 0.00", "0 1", "93.86 a, 94.16 b, 94.00 c"]
    for letter, source in zip("abc", ("chengyangfu", "chenyaofo", "huyvnphan"), strict=True):
        assert f"{letter}: {source}/" in content


def test_runs_of_other_lengths_are_not_averaged_and_others_have_no_such_table(runs, bare, tmp_path):
    config = json.loads((runs[0].path / "config.json").read_text()) | {"steps": 9}
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "config.json").write_text(json.dumps(config))
    (tmp_path / "short" / "metrics.jsonl").write_text('{"step": 9, "eval/top1": 0.25}\n')
    cells = read("".join(beside_published([*runs, StoredRun(tmp_path / "short")]))).cells
    assert cells[cells.index("steps: 9") :][:4] == ["steps: 9", "25.00", "25.00", "0"]
    assert "50.00 ± 0.00" in cells
    assert list(beside_published([bare])) == []


def test_curves_are_drawn_of_what_was_recorded(runs, bare):
    content = "".join(learning_curves(runs))
    assert content.count("<figcaption>") == 2
    assert content.count("<polyline") == 4
    assert "<title>bn-seed1</title>" in content
    assert 'class="legend"' in content
    alone = "".join(learning_curves([bare]))
    assert 'class="legend"' not in alone
    assert "<circle" in alone  # one point
    (bare.path / "metrics.jsonl").write_text("")
    assert list(learning_curves([StoredRun(bare.path)])) == []


def test_how_to_repeat_tells_configs_apart(runs, bare):
    parts = list(how_to_repeat(runs))
    content = "".join(parts)
    assert "--x=&#x27;&lt;&amp;&gt;&#x27;" in content
    (differing,) = (part for part in parts if "Where the configs differ" in part)
    assert read(differing).cells == ["run", "seed", "bn-seed0", "0", "bn-seed1", "1"]
    (shared,) = (part for part in parts if "What the configs share" in part)
    assert {"model.norm", "batch"} <= set(read(shared).cells)
    assert "seed" not in read(shared).cells
    assert "9.8.7" in content
    alone = "".join(how_to_repeat(runs[:1]))
    assert "<summary>Config</summary>" in alone
    assert "differ" not in alone
    assert list(how_to_repeat([bare])) == []


def test_probes_open_at_a_click_where_there_are_several_runs(runs):
    alone, both = ("".join(runs_section(each)) for each in (runs[:1], runs))
    assert "<h3>Layer by layer</h3>" in alone
    assert "<summary>bn-seed0, layer by layer</summary>" in both
    assert "bn-seed1, layer by layer" not in both  # it has none


def test_files_of_no_run_are_shown_once(folder, runs, tmp_path):
    shown = [path.relative_to(folder).as_posix() for path, _ in result_files(folder, runs)]
    assert shown == ["curve.png", "notes.md", "table.csv"]
    for name in ("a.csv", "a.md", "b.png", "b.svg", "c.svg", "README.md", ".d/e.csv", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("| a |\n|---|\n| 1 |\n")
    shown = {path.relative_to(tmp_path).as_posix() for path, _ in result_files(tmp_path, [])}
    assert shown == {"a.md", "b.png", "c.svg"}


def test_a_large_picture_is_left_out_and_that_is_said(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    ((_, content),) = result_files(tmp_path, [])
    assert content == '<p class="note">noise.png has more than a mebibyte and is left out</p>'
