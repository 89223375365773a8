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
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


def test_every_page_of_the_documentation_is_in_its_table_of_contents():
    contents = set(LINK.findall((ROOT / "docs" / "README.md").read_text()))
    assert contents == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
