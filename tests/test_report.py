"""The report of a real run, read back as HTML and looked at in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.reporting.browser import CHROMIUM, chromium
from tests.reporting.results import read, write_results
from vgg_jax.errors import UserError
from vgg_jax.report import build_report, main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write_results(root)
    return root


@pytest.fixture(scope="module")
def page(folder):
    return build_report([folder])


@pytest.fixture(scope="module")
def reader(page):
    return read(page)


def test_numbers_of_the_runs_are_in_the_tables(reader):
    assert "50.00%" in reader.cells  # the last accuracy
    assert "1:02:05" in reader.cells  # wall time
    assert "not ended" in reader.cells  # the run without a summary
    assert {"9.8.7", "3 x v9 (tpu)", "0.12346", "1,234"} <= set(reader.cells)


def test_commands_are_shown_as_typed(page):
    assert "--config=configs/vgg16.py:cifar10,bn --x=&#x27;&lt;&amp;&gt;&#x27;" in page


def test_page_asks_for_nothing(reader, page):
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert "<script" not in page
    assert "url(" not in page
    assert "@import" not in page


def test_command_line_writes_the_file(folder, tmp_path):
    out = tmp_path / "page.html"
    result = subprocess.run(
        [sys.executable, "-m", "vgg_jax.report", str(folder / "bn-seed0"), f"--out={out}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert str(out) in result.stdout
    assert "activation_grad_rms" in out.read_text()


def test_runs_named_together_are_compared(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main([str(folder / "bn-seed1"), str(folder / "bn-seed0"), f"--out={out}"]) == 0
    assert str(out) in capsys.readouterr().out
    page = out.read_text()
    assert page.count("<h2") == 1
    assert re.findall(r"<td>(bn-seed\d)</td>", page) == ["bn-seed1", "bn-seed0"]


def test_text_that_is_no_unicode_is_written_all_the_same(folder, tmp_path):
    shutil.copytree(folder / "bn-seed0", tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text('{"exit_reason": "\\ud800"}')
    assert main([str(tmp_path / "run")]) == 0
    assert "?</td>" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_report_is_said(folder, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name) as caught:
        main([str(folder / "bn-seed0"), str(tmp_path / name), str(folder / "bn-seed1")])
    assert len(str(caught.value).splitlines()) == 1


def test_results_of_this_project_can_be_reported(pytestconfig):
    folder = pytestconfig.rootpath / "experiments"
    page = build_report([folder])
    assert "experiments/first_runs/results" in page
    table = (folder / "first_runs" / "results" / "table.md").read_text()
    (accuracy,) = re.findall(r"\| digits \| ([\d.]+%)", table)
    assert f">{accuracy}</td>" in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which .ci/run installs")
def test_browser_shows_it_light_and_dark_wide_and_narrow(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page)
    backgrounds = {}
    with chromium() as browser:
        for width, dark in ((1100, False), (1100, True), (390, False)):
            browser.open(path, width=width, dark=dark)
            browser.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
            wide = "document.documentElement.scrollWidth"
            assert browser.evaluate(wide) == width, "the page must not scroll sideways"
            shapes = "document.querySelectorAll('svg polyline, svg rect, svg circle').length"
            assert browser.evaluate(shapes) > 20
            charts = "[...document.querySelectorAll('figure svg')]"
            boxes = f"{charts}.map(s => s.getBoundingClientRect())"
            assert browser.evaluate(f"{boxes}.every(b => b.width > 300 && b.height > 100)")
            right = "getBoundingClientRect().right"
            beyond = f"t.{right} > t.ownerSVGElement.{right}"
            cut = f"[...document.querySelectorAll('svg text')].filter(t => {beyond}).length"
            assert browser.evaluate(cut) == 0, "a label is cut off"
            image = tmp_path / f"{width}-{dark}.png"
            browser.screenshot(image)
            pixels = cv2.imread(str(image))
            assert pixels.shape[0] > 1500
            assert pixels.std() > 10
            backgrounds[width, dark] = pixels[2, 2].mean()
        assert browser.complaints == []
        assert set(browser.requests) == {path.resolve().as_uri(), *data_links(browser.requests)}
    assert backgrounds[1100, False] > 240
    assert backgrounds[1100, True] < 40


def data_links(addresses: list[str]) -> set[str]:
    return {address for address in addresses if address.startswith("data:")}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"metrics": 5}'),
        ("summary.json", '{"wall_seconds": "long"}'),
        ("summary.json", "[" * 200_000),
        ("config.json", "null"),
        ("config.json", '{"data": 1}'),
        ("metrics.jsonl", "{\n"),
        ("metrics.jsonl", "3\n"),
        ("metrics.jsonl", '{"train/loss": 1}\n'),
        ("metrics.jsonl", '{"step": 1, "eval/top1": "high"}\n'),
        ("probes/layers.csv", "net,step,layer,depth,quantity,value\nD,x,conv1_1,1,a,1\n"),
        ("probes/layers.csv", "layer,value\nconv1_1,high\n"),
        ("../table.csv", "a\n" + "9" * 200_000),
    ],
)
def test_a_damaged_file_is_named_in_a_line(folder, tmp_path, name, content):
    run = tmp_path / "run"
    shutil.copytree(folder / "bn-seed0", run)
    (run / name).write_text(content)
    with pytest.raises(UserError, match=Path(name).name) as caught:
        build_report([tmp_path])
    assert len(str(caught.value)) < 500
    assert len(str(caught.value).splitlines()) == 1


def test_other_bytes_in_a_table_are_shown_as_they_are(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    (tmp_path / "note.md").write_bytes(b"| a |\n|---|\n| \xff |\n")
    assert build_report([tmp_path]).count("\N{REPLACEMENT CHARACTER}") == 3


def test_markup_in_names_and_values_is_shown_as_text(folder, tmp_path):
    evil = "<evil>&\"'"
    run = tmp_path / evil
    shutil.copytree(folder / "bn-seed0", run)
    config = json.loads((run / "config.json").read_text())
    config["model"]["variant"] = config["data"]["name"] = evil
    (run / "config.json").write_text(json.dumps(config))
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"exit_reason": evil, "command": evil, "versions": {evil: evil}}
    summary["devices"] = {"platform": evil, "kind": evil}
    (run / "summary.json").write_text(json.dumps(summary))
    line = {"step": 1, evil: 1.0, "train/loss": 2.0}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    rows = "net,step,layer,depth,quantity,value\n"
    (run / "probes" / "layers.csv").write_text(
        f"{rows}D,0,<evil>,1,<evil>,1\nD,1,<evil>,1,<evil>,2\n"
    )
    (tmp_path / f"{evil}.csv").write_text(f"{rows}<evil>,0,<evil>,1,<evil>,1\n")
    (tmp_path / f"{evil}.md").write_text("| a |\n|---|\n| <evil> |\n")
    page = build_report([tmp_path])
    assert "<evil" not in page
    assert "&lt;evil" in page
