"""What stands in the sections about runs, and about the files beside them."""

import json
import re

import cv2
import numpy as np
import pytest

from tests.reporting.results import read, write_results
from vgg_jax.reporting.sections import (
    beside_published,
    differing_keys,
    final_accuracy,
    how_to_repeat,
    learning_curves,
    result_files,
    run_section,
    throughput,
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


def headings(content: str) -> list[str]:
    return re.findall("<h3>(.*?)</h3>", content)


def test_a_run_opens_with_what_matters(runs):
    content = "".join(run_section(runs[0]))
    assert headings(content) == [
        *("Final accuracy", "Learning curves", "Gradients per layer"),
        *("Beside published figures", "Layer by layer", "Commands, versions, configs"),
    ]
    assert "<strong>50.00%</strong> top-1 at step 100" in content
    assert "Protocol: data cifar10 test, one view, no EMA." in content
    parts = content.split("<h3>")
    (gradients,) = (part for part in parts if part.startswith("Gradients per layer"))
    assert re.findall("<figcaption>(.*?)</figcaption>", gradients) == ["activation_grad_rms"]
    (rest,) = (part for part in parts if part.startswith("Layer by layer"))
    assert re.findall("<figcaption>(.*?)</figcaption>", rest) == ["dead_fraction", "loss"]


def test_what_a_run_reached_is_in_a_table_with_only_columns_that_say_something(runs, bare):
    header, row = table("".join(final_accuracy(runs[0])), 9)
    assert dict(zip(header, row, strict=True)) == {
        **{"best top-1": "50.00%", "at step": "100", "train loss": "0.125", "steps made": "100"},
        **{"wall": "1:02:05", "net": "D", "norm": "batch", "init": "chengyangfu"},
        **{"end": "finished"},
    }
    content = "".join(run_section(bare))
    assert headings(content)[0] == "Accuracy so far"
    assert "The run has not been evaluated." in content
    assert "Not measured; --config.probe.every_steps=N" in content
    assert table("".join(final_accuracy(bare)), 3) == [
        ["train loss", "steps made", "end"],
        ["0.5", "7", "not ended"],
    ]


def test_throughput_names_the_device(runs, bare):
    assert list(throughput(runs)) == []  # none was recorded
    line = {"step": 1, "train/images_per_second": 1234.5}
    (bare.path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    devices = {"count": 2, "kind": "v9", "platform": "tpu"}
    summary = {"images_per_second": 2345.6, "seconds_to_first_step": 3.21, "devices": devices}
    (bare.path / "summary.json").write_text(json.dumps(summary))
    content = "".join(throughput([StoredRun(bare.path)]))
    assert "2,346 images/s on 2 x v9 (tpu); 3.2 s from the start to the first step." in content
    assert "<circle" in content


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
    assert differing_keys(runs) == ["seed"]
    (shared,) = (part for part in parts if "What the configs share" in part)
    assert {"model.norm", "batch"} <= set(read(shared).cells)
    assert "seed" not in read(shared).cells
    assert "9.8.7" in content
    alone = "".join(how_to_repeat(runs[:1]))
    assert "<summary>Config</summary>" in alone
    assert list(how_to_repeat([bare])) == []


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
