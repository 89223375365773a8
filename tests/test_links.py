"""Every relative link of the pages leads somewhere, and the README stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").glob("*/README.md")),
]
FILE = re.compile(r"`((?:vgg_jax|tests|configs|experiments)/[\w/]+\.\w+)[`:]")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist_and_prose_wraps(page):
    text = page.read_text()
    named = [name for name in FILE.findall(text) if "NAME" not in name]
    assert not [name for name in named if not (ROOT / name).exists()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    exempt = ("|", "    ", "!", "#")
    long = [line for line in prose if len(line) > 100 and not line.lstrip(" ").startswith("|")]
    assert not [line for line in long if not line.startswith(exempt) and "](" not in line]


def test_every_page_of_the_documentation_is_in_its_table_of_contents():
    contents = set(LINK.findall((ROOT / "docs" / "README.md").read_text()))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    notebooks = {f"notebooks/{path.name}" for path in (ROOT / "docs" / "notebooks").iterdir()}
    assert contents == pages | notebooks


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
