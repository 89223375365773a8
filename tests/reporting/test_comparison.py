"""Several runs beside each other: real ones, damaged ones, and what a browser makes of them."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest

from tests.reporting.browser import CHROMIUM, chromium
from tests.reporting.results import read
from vgg_jax.config import load_config
from vgg_jax.report import build_report
from vgg_jax.reporting.comparison import comparison_table, remarks
from vgg_jax.reporting.svg import DASHES
from vgg_jax.runs.reader import SalvagedRun
from vgg_jax.training.loop import train

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TINY = [
    "--config.model.stages=('3-4',)",
    "--config.model.head=linear",
    "--config.data.image_size=8",
    "--config.data.batch_size=8",
    "--config.eval.batch_size=360",
    "--config.steps=6",
    "--config.eval.every_steps=3",
    "--config.log.every_steps=2",
    "--config.optimizer.schedule=constant",
]
RUNS = {
    "bare": ["--config.probe.every_steps=0"],
    "glorot": ["--config.probe.every_steps=2", "--config.model.kernel_init=glorot_normal"],
    "plain": ["--config.probe.every_steps=2"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three real runs, as a sweep leaves them."""
    root = tmp_path_factory.mktemp("sweep")
    for name, overrides in RUNS.items():
        train(load_config("configs/vgg11.py:digits", [*TINY, *overrides]), root / name, 0.0)
        shutil.rmtree(root / name / "checkpoints")
    return root


@pytest.fixture(scope="module")
def page(folder):
    return build_report([folder])


@pytest.fixture
def own(folder, tmp_path):
    """The runs in a folder that may be changed."""
    for name in RUNS:
        shutil.copytree(folder / name, tmp_path / name)
    return tmp_path


def table_of(folders: list[Path]) -> str:
    """Returns the first table of a report."""
    return build_report(folders).partition("<table>")[2].partition("</table>")[0]


def rows(content: str) -> list[dict[str, str]]:
    """Returns the lines of a table, by the names of its columns."""
    cells = read(content).cells
    width = content.count("<th") - content.count("<thead")
    lines = [cells[i : i + width] for i in range(0, len(cells), width)]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_all_numbers_in_the_table_are_those_of_the_files(folder):
    table = rows(comparison_table([SalvagedRun(folder / name) for name in RUNS]))
    assert [row["run"] for row in table] == list(RUNS)
    for row in table:
        run = folder / row["run"]
        config, summary = (
            json.loads((run / f"{n}.json").read_text()) for n in ("config", "summary")
        )
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        accuracies = {line["step"]: line["eval/top1"] for line in lines if "eval/top1" in line}
        assert set(accuracies) == {3, 6}
        best = max(accuracies.values())
        minutes, seconds = divmod(round(summary["wall_seconds"]), 60)
        assert row.pop("wall").endswith(f"{minutes % 60}:{seconds:02d}")
        assert row == {
            "run": run.name,
            "model.kernel_init": config["model"]["kernel_init"],
            "probe.every_steps": str(config["probe"]["every_steps"]),
            "top-1": f"{accuracies[6]:.2%}",
            "best top-1": f"{best:.2%}",
            "at step": str(min(step for step, top1 in accuracies.items() if top1 == best)),
            "eval loss": f"{summary['metrics']['eval/loss']:.4g}",
            "train loss": f"{lines[-2]['train/loss']:.4g}",
            "images/s": f"{summary['images_per_second']:,.0f}",
            "parameters": f"{summary['parameters']:,}",
            "steps made": "6",
            "end": "finished",
        }


def test_protocol_stands_under_the_table_once(page):
    assert page.count("Protocol: data digits test, 359 examples, one view (centre crop 8 ") == 1


def test_lines_differ_in_colour_and_dashes_and_the_legend_shows_both(page):
    legends = re.findall('<ul class="legend">(.*?)</ul>', page)
    keys = re.findall(
        r'<line class="line (s\d)"( stroke-dasharray="[^"]*")?.*?</svg>(\w+)', legends[0]
    )
    assert [name for *_, name in keys] == list(RUNS)
    assert len({color for color, *_ in keys}) == len({dashes for _, dashes, _ in keys}) == 3
    charts = re.findall('<svg viewBox="0 0 460 280".*?</svg>', page)
    assert len(charts) > 5
    for chart in charts:
        shapes = re.findall(
            r'class="line (s\d)"( stroke-dasharray="[^"]*")? .*?<title>(\w+)<', chart
        )
        assert shapes in (keys, keys[1:])  # the first run was not probed


def test_maps_stand_side_by_side_on_one_scale(folder, page):
    cell = r'fill="(#\w+)"><title>([\w]+), step (\d+): (\S+) log10 activation_grad_rms<'
    maps = re.findall(r"<figcaption>(\w+)</figcaption>(<svg.*?</svg>)", page)
    shown = {name: re.findall(cell, chart) for name, chart in maps if "log10 activation_g" in chart}
    assert list(shown) == ["glorot", "plain"]
    colors = {}
    stored = {}
    for name, cells in shown.items():
        with (folder / name / "probes" / "layers.csv").open() as file:
            stored |= {
                (name, row["layer"], row["step"]): float(row["value"])
                for row in csv.DictReader(file)
                if row["quantity"] == "activation_grad_rms"
            }
        for color, layer, step, value in cells:
            colors[name, layer, step] = color
            assert 10 ** float(value) == pytest.approx(stored[name, layer, step], rel=0.02)
    assert colors.keys() == stored.keys()
    # The ends of the scale are those of all runs together.
    assert colors[min(stored, key=stored.get)] == "#440154"
    assert colors[max(stored, key=stored.get)] == "#fde725"
    ends = [re.findall(r'y="[\d.]+">([^<]+)<', chart) for _, chart in maps if "_grad_rms" in chart]
    low, high = (f"{math.log10(pick(stored.values())):.3g}" for pick in (min, max))
    assert ends == [[high, low]] * 2


def test_more_than_eight_lines_are_told():
    page = build_report([EXPERIMENTS / "cifar_tables" / "results" / "quick"])
    assert "of the first 8 of 16 runs" in page
    (loss,) = re.findall("<figcaption>training loss.*?</figure>", page)
    styles = re.findall(r'class="line (s\d)"(?: stroke-dasharray="([^"]*)")?', loss)
    assert [dashes for _, dashes in styles] == list(DASHES)
    assert len(set(DASHES)) == len({color for color, _ in styles}) == 8
    assert page.count(">cifar10-vgg19-plain-seed1</td>") == 1  # in the table all the same


def test_different_data_are_told():
    page = build_report([EXPERIMENTS / "first_runs" / "results"])
    assert "Protocol of cifar10: data cifar10 test, 10,000 examples" in page
    assert "Protocol of digits: data digits test, 359 examples" in page
    assert page.count("Accuracies on different data do not compare.") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", '{"parameters": "many"}'),
        ("config.json", "null"),
        ("metrics.jsonl", "3\n"),
        ("metrics.jsonl", '{"step": NaN, "eval/top1": 1}\n'),
        ("metrics.jsonl", '{"step": 4, "eval/top1": 0.875}\n{"step"\n{"step"\n{"step"\n'),
        ("probes/layers.csv", "layer,value\nconv1_1,high\n"),
    ],
)
def test_a_damaged_run_is_shown_without_what_is_damaged(own, name, content):
    (own / "plain" / name).write_text(content)
    page = build_report([own])
    (told,) = re.findall('<p class="note">(plain is shown without .*?)</p>', page)
    assert Path(name).name in told
    assert len(told) < 400
    assert ">plain</td>" in page
    if "0.875" in content:
        assert ">87.50%</td>" in page
        assert "(lines damaged: 3)" in told


def test_unfinished_runs_are_shown_as_far_as_they_are(own):
    (own / "plain" / "summary.json").unlink()
    for file in (own / "glorot").iterdir():
        if file.is_file() and file.name not in (".lock", "config.json"):
            file.unlink()
    notes = list(remarks([SalvagedRun(own / name) for name in RUNS]))
    assert "plain has not ended: shown is what it stored up to now." in notes
    assert "glorot has stored no numbers yet." in notes
    assert not any(note.startswith("bare ") for note in notes)
    table = {row["run"]: row for row in rows(table_of([own]))}
    assert table["plain"]["end"] == table["glorot"]["end"] == "not ended"
    assert table["plain"]["steps made"] == "6"
    assert table["glorot"]["model.kernel_init"] == "glorot_normal"
    assert table["glorot"]["top-1"] == ""


def test_runs_named_together_are_compared_by_names_that_tell_them_apart(own):
    (own / "a").mkdir()
    (own / "b").mkdir()
    first, second = (
        (own / "glorot").rename(own / "a" / "run"),
        (own / "plain").rename(own / "b" / "run"),
    )
    folders = [second, first, own / "b" / ".." / "b" / "run"]
    assert [row["run"] for row in rows(table_of(folders))] == ["b/run", "a/run"]
    assert '<h2 id="part0">2 runs</h2>' in build_report(folders)


def test_markup_in_names_and_values_is_shown_as_text(own):
    evil = "<evil>&\"'"
    run = (own / "plain").rename(own / evil)
    config = json.loads((run / "config.json").read_text())
    config |= {"epochs": evil, "seed": evil, evil: evil}
    config["optimizer"]["ema"] = evil
    config["model"]["variant"] = [{evil: evil}]
    (run / "config.json").write_text(json.dumps(config))
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"exit_reason": evil, "parameters": float("nan"), "wall_seconds": float("inf")}
    summary["protocol"] = {"dataset": evil, "split": [evil], "crop": {evil: evil}}
    (run / "summary.json").write_text(json.dumps(summary))
    table = run / "probes" / "layers.csv"
    table.write_text(table.read_text().replace("conv1_1", "<evil>").replace("dead_", "<evil>"))
    (own / "glorot" / "summary.json").write_text(json.dumps({"<evil>": 1, "steps": "<evil>"}))
    page = build_report([own])
    assert "<evil" not in page
    assert page.count("&lt;evil") > 10


# Contrast of every text and line to what is behind it, by WCAG 2.
CONTRASTS = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const share = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * share(c[i] / 255), 0);
  const ground = e => {
    const color = channels(getComputedStyle(e).backgroundColor);
    return color.length === 3 || color[3] > 0 ? color : ground(e.parentElement);
  };
  const contrast = (color, e) => {
    const [low, high] = [light(channels(color)), light(ground(e))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const all = selector => [...document.querySelectorAll(selector)];
  const texts = 'h1,h2,h3,h4,p,a,td,th,li,summary,pre,figcaption';
  return {
    text: all(texts).map(e => contrast(getComputedStyle(e).color, e))
      .concat(all('svg text').map(e => contrast(getComputedStyle(e).fill, e))),
    line: all('.line').map(e => contrast(getComputedStyle(e).stroke, e)),
  };
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which .ci/run installs")
def test_page_reads_well_on_a_phone_and_in_the_dark(folder, page, tmp_path):
    many = build_report([EXPERIMENTS / "cifar_tables" / "results" / "quick"])
    with chromium() as browser:
        for name, content in (("three", page), ("many", many)):
            path = tmp_path / f"{name}.html"
            path.write_text(content)
            for width, dark in ((390, False), (390, True), (1100, True)):
                browser.open(path, width=width, dark=dark)
                browser.evaluate(
                    "for (const d of document.querySelectorAll('details')) d.open = true"
                )
                assert browser.evaluate("document.documentElement.scrollWidth") == width
                contrasts = browser.evaluate(CONTRASTS)
                assert len(contrasts["line"]) > 20
                assert min(contrasts["text"]) >= 4.5
                assert min(contrasts["line"]) >= 3
                # The names of the runs stay in sight while the numbers scroll past.
                browser.evaluate("document.querySelector('.named').scrollLeft = 150")
                first = "document.querySelector('.named td').getBoundingClientRect()"
                assert 0 <= browser.evaluate(f"{first}.left") < 40
                assert browser.evaluate(f"{first}.height") < 80
        assert browser.complaints == []
