"""The documentation builds as a site, strictly, that loads nothing from elsewhere."""

import functools
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import vgg_jax
from tests.reporting.browser import CHROMIUM, chromium

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
LOADS = {"audio", "embed", "iframe", "img", "input", "object", "script", "source", "video"}
LOADING_LINKS = {"icon", "modulepreload", "preconnect", "prefetch", "preload", "stylesheet"}

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("mkdocs"), reason="needs the extra docs"
)


def build(folder: Path, config: Path = CONFIG) -> subprocess.CompletedProcess[str]:
    """Builds the site into a folder. Whatever it asks of the network fails."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={folder}"]
    return subprocess.run(
        [*command, f"--config-file={config}"],
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keeps the requests out of the tests' output."""


class Page(HTMLParser):
    """The addresses that a page loads, those that it links, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values["id"]} if "id" in values else set()
        loads = tag in LOADS or LOADING_LINKS & set(values.get("rel", "").split())
        addresses = [values[name] for name in ("src", "href", "data") if name in values]
        (self.loaded if loads else self.linked).extend(addresses)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = build(folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_of_the_documentation_has_its_place(site):
    patterns = ("*.md", "docs/*.md", "docs/notebooks/*.ipynb", "experiments/*/README.md")
    sources = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(sources) > 30
    for source in sources:
        place = source.relative_to(ROOT).with_suffix("")
        place = place.parent if place.name == "README" else place
        assert (site / place / "index.html").is_file(), source


def test_api_has_every_public_name(pages, site):
    front = pages[site / "api" / "vgg_jax" / "index.html"]
    homes = {name: home for home, names in vgg_jax._HOMES.items() for name in names}
    for name in vgg_jax.__all__:
        full = f"{homes[name]}.{name}"
        assert {full, f"vgg_jax.{name}"} & front.anchors, full
        page = pages[site / "api" / homes[name].replace(".", "/") / "index.html"]
        assert full in page.anchors, full
    models = (site / "api" / "vgg_jax" / "weights" / "creating" / "index.html").read_text()
    assert models.count("table 1: images (N, 224, 224, 3) to logits (N, 1000).") == 4


def test_api_has_every_module(site):
    for path in (ROOT / "vgg_jax").rglob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            assert (site / "api" / path.relative_to(ROOT).with_suffix("") / "index.html").is_file()


def test_gallery_links_each_figure_to_its_experiment(site):
    gallery = (site / "docs" / "gallery" / "index.html").read_text()
    figure = (
        r'<a href="../../experiments/(\w+)/"><img alt="[^"]+" src="../../experiments/\1/results/'
    )
    shown = set(re.findall(figure, gallery))
    texts = {path.parent.name: path.read_text() for path in ROOT.glob("experiments/*/README.md")}
    assert shown == {name for name, text in texts.items() if "![" in text}


def test_notebooks_are_pages_with_code_output_and_pictures(pages, site):
    contents = pages[site / "docs" / "index.html"]
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        page = site / "docs" / "notebooks" / path.stem / "index.html"
        # Contents and navigation link the page, and the page the file itself.
        assert contents.linked.count(f"notebooks/{path.stem}/") >= 2
        assert f"../{path.name}" in pages[page].linked
        assert (site / "docs" / "notebooks" / path.name).read_bytes() == path.read_bytes()
        shown = html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))
        data = [output.get("data", output) for c in cells for output in c.get("outputs", ())]
        pictures = [one for one in data if {"image/png", "image/jpeg"} & one.keys()]
        texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        texts += ["".join(one[kind]) for one in data for kind in ("text",) if kind in one]
        assert not [text for text in texts if text.strip() not in shown]
        assert len([url for url in pages[page].loaded if path.stem in url]) == len(pictures) > 0
        assert "colab.research" not in page.read_text()  # there is no public address


def test_cite_page_has_the_paper_and_the_version(site):
    text = re.sub(r"<[^>]+>", "", (site / "cite" / "index.html").read_text())
    assert f"version = {{{vgg_jax.__version__}}}" in text
    assert "author = {Simonyan, Karen and Zisserman, Andrew}" in text


def test_search_index_has_pages_and_the_api(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"] for entry in index["docs"]}
    assert {"docs/tutorial/", "docs/notebooks/gradients/"} <= found
    assert "api/vgg_jax/training/fitting/#vgg_jax.training.fitting.fit" in found


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which .ci/run installs")
def test_browser_shows_fits_searches_and_asks_no_other_host(site):
    handler = functools.partial(QuietHandler, directory=site)
    results = "document.querySelectorAll('.md-search-result__item').length"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, chromium() as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        for page in (f"notebooks/{path.stem}" for path in NOTEBOOKS):
            for dark in (True, False):  # the second visit is by another light than the first
                browser.open(f"{home}docs/{page}/", width=390, dark=dark)
                assert browser.evaluate("document.documentElement.scrollWidth") == 390
                scheme = browser.evaluate("document.body.dataset.mdColorScheme")
                assert scheme == ("slate" if dark else "default")
            widths = "[...document.querySelectorAll('article img')].map(i => i.naturalWidth)"
            assert min(browser.evaluate(widths)) > 300
        browser.open(f"{home}docs/gallery/", width=1300, dark=False)
        browser.evaluate("document.querySelector('.md-search__input').focus() === undefined")
        browser.call("Input.insertText", text="lsuv")
        deadline = time.monotonic() + 60
        while not browser.evaluate(results) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert browser.evaluate(results) > 0
        server.shutdown()
    assert f"{home}search/search_index.json" in browser.requests
    others = [url for url in browser.requests if not url.startswith((home, "data:", "blob:"))]
    assert not others
    assert browser.complaints == []


def test_nothing_comes_from_another_host(pages, site):
    loaded = {url for page in pages.values() for url in page.loaded}
    assert len(loaded) > 50
    assert not [url for url in loaded if url.startswith(("http://", "https://", "//"))]
    sheets = "".join(path.read_text() for path in site.rglob("*.css"))
    assert len(sheets) > 10_000
    assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)]*", sheets)


def test_no_markdown_is_left_in_the_text(pages):
    """What GitHub shows as a list, a table or code is one on the site too."""
    for path in pages:
        text = re.sub(r"<(code|pre|script)\b.*?</\1>", "", path.read_text(), flags=re.DOTALL)
        paragraphs = re.findall(r"<p>(.*?)</p>", text, re.DOTALL)
        left = [text for text in paragraphs if re.search(r"^(- |\| |\d+\. )|```|\]\(", text, re.M)]
        assert not left, path


@functools.cache
def file_at(address: str) -> Path | None:
    """Returns the file that a server of files shows at an address, if there is one."""
    path = Path(address)
    path = path / "index.html" if path.is_dir() else path
    return path if path.is_file() else None


def test_every_local_address_leads_somewhere(pages, site):
    missing = set()
    for path, page in pages.items():
        for url in {*page.loaded, *page.linked}:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            address = os.path.normpath(path.parent / unquote(parts.path)) if parts.path else path
            target, anchor = file_at(address), unquote(parts.fragment)
            if target is None or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                missing.add((str(path.relative_to(site)), url))
    assert not missing


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with the same settings and little else."""
    shutil.copytree(CONFIG.parent, tmp_path / CONFIG.parent.relative_to(ROOT))
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY"):
        (tmp_path / f"{name}.md").write_text("# Page\n\n[security](SECURITY.md)\n")
    for name in ("tutorial", "gallery", "data"):
        (tmp_path / "docs" / f"{name}.md").write_text("# Page\n\n[home](../README.md#page)\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    output = {"output_type": "stream", "name": "stdout", "text": ["```\n", "- a\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# Notebook"]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": [output, output]},
    ]
    (tmp_path / "docs" / "own.ipynb").write_text(json.dumps({"cells": cells}))
    links = "[tutorial](tutorial.md) [gallery](gallery.md) [data](data.md) [own](own.ipynb)"
    (tmp_path / "docs" / "README.md").write_text(f"# Documentation\n\n{links}\n")
    (tmp_path / "vgg_jax" / "evaluation").mkdir(parents=True)
    for name in ("__init__", "evaluation/__init__"):
        (tmp_path / "vgg_jax" / f"{name}.py").touch()
    module = '"""[This module][vgg_jax.evaluation.prediction]."""\npredict = print\n'
    (tmp_path / "vgg_jax" / "evaluation" / "prediction.py").write_text(module)
    (tmp_path / "experiments").mkdir()
    return tmp_path


def test_the_small_repository_builds(small):
    project = small / "pyproject.toml"
    address = 'Repository = "https://github.com/someone/fork.git"'
    project.write_text(project.read_text().replace("[project.urls]", f"[project.urls]\n{address}"))
    result = build(small / "built", small / CONFIG.relative_to(ROOT))
    assert result.returncode == 0, result.stderr
    page = small / "built" / "docs" / "own" / "index.html"
    colab = "https://colab.research.google.com/github/someone/fork/blob/main/docs/own.ipynb"
    assert colab in Page(page).linked
    assert "```\n- a\n```\n- a\n" in re.sub(r"<[^>]+>", "", page.read_text())


ARGUMENT = "def f(x: int) -> None:\n    '''Does nothing.\n\n    Args:\n      y: no such.\n    '''"


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("docs/data.md", "[a page](nowhere.md)", "'nowhere.md'"),
        ("docs/data.md", "[a part](../README.md#nowhere)", "'#nowhere'"),
        ("docs/data.md", "[a folder](../vgg_jax)", "'../vgg_jax'"),
        ("docs/unlisted.md", "Not in the table of contents.", "docs/unlisted.md"),
        ("vgg_jax/rng.py", '"""[A name][vgg_jax.nowhere]."""', "'vgg_jax.nowhere'"),
        ("vgg_jax/rng.py", ARGUMENT, "'y'"),
    ],
    ids=["page", "anchor", "folder", "not listed", "name in a docstring", "argument"],
)
def test_a_mistake_ends_the_build(small, file, text, complaint):
    (small / file).write_text(f"{text}\n")
    result = build(small / "built", small / CONFIG.relative_to(ROOT))
    assert result.returncode == 1
    assert complaint in result.stderr
