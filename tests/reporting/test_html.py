"""Pieces of a page: text stays text, numbers are flush right, long tables open at a click."""

import base64
import re

import pytest

from tests.reporting.results import read
from vgg_jax.errors import UserError
from vgg_jax.reporting import html

EVIL = "<b>&\"'</b>"


@pytest.mark.parametrize(
    "make",
    [
        lambda: html.page(EVIL, EVIL, []),
        lambda: html.heading(EVIL),
        lambda: html.note(EVIL),
        lambda: html.result(EVIL, EVIL),
        lambda: html.navigation([("a1", EVIL)]),
        lambda: html.table([EVIL], [[EVIL]]),
        lambda: html.captioned_figure(EVIL, ""),
        lambda: html.legend([EVIL]),
        lambda: html.details(EVIL, ""),
        lambda: html.code(EVIL),
        lambda: "".join(html.markdown_tables(f"| {EVIL} |\n|---|\n| {EVIL} |\n")),
    ],
    ids=range(11),
)
def test_markup_in_text_is_shown_as_text(make):
    content = make()
    assert "<b>" not in content
    assert "&lt;b&gt;&amp;&quot;&#x27;&lt;/b&gt;" in content
    read(content.replace("<!doctype html>", ""))  # every tag is closed


def test_a_page_has_a_title_a_lead_and_its_body():
    page = html.page("Title", "Lead", [html.heading("One", anchor="one"), html.note("Two")])
    assert page.startswith("<!doctype html>\n")
    assert "<title>Title</title>" in page
    assert '<h2 id="one">One</h2>\n<p class="note">Two</p>' in page
    assert page.index("Lead") < page.index("One")
    assert '<a href="#one">One</a>' in html.navigation([("one", "One")])
    assert html.heading("Three", 3) == "<h3>Three</h3>"


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "-2.5", "+3", "1e-5"],
        ["1,234", "", "-"],
        ["93.86 ± 0.12", "94"],
        ["50.00%", "0.1 %"],
    ],
)
def test_columns_of_numbers_are_flush_right(cells):
    content = html.table(["name", "value"], [["a", cell] for cell in cells])
    assert content.count('class="number"') == len(cells) + 1  # with the heading


@pytest.mark.parametrize("cells", [["1", "x"], ["", ""], ["1.2.3 jax"], ["4 8"]])
def test_other_columns_are_not(cells):
    assert 'class="number"' not in html.table(["value"], [[cell] for cell in cells])


def test_long_text_wraps_and_a_ragged_row_is_an_error():
    content = html.table(["a", "b"], [["short", "word " * 20]])
    assert content.count('<td class="text">') == 1
    assert "<th>a.<wbr>b</th>" in html.table(["a.b"], [["a.b"]])  # a config key may break there
    with pytest.raises(ValueError, match="zip"):
        html.table(["a"], [["1", "2"]])


@pytest.mark.parametrize(
    ("count", "opens_at_a_click", "left_out"), [(30, False, 0), (31, True, 0), (205, True, 5)]
)
def test_a_long_csv_file_is_cut_and_opens_at_a_click(tmp_path, count, opens_at_a_click, left_out):
    path = tmp_path / "table.csv"
    path.write_text("n,half\n" + "".join(f"{n},{n / 2}\n" for n in range(count)))
    content = html.csv_table(path)
    assert read(content).cells == [
        *("n", "half"),
        *(str(x) for n in range(count - left_out) for x in (n, n / 2)),
    ]
    assert (f"<summary>{count} rows</summary>" in content) == opens_at_a_click
    assert (f"{left_out} more rows in table.csv" in content) == bool(left_out)


def test_numbers_of_a_csv_file_are_shortened_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    shown = {"0.123456789": "0.12346", "-1.234567e-9": "-1.2346e-09", "0.25": "0.25"}
    shown |= {"9c5da95212": "9c5da95212", "1.0.123456": "1.0.123456", "123456789": "123456789"}
    path.write_text("a\n" + "\n".join(shown) + "\n")
    assert read(html.csv_table(path)).cells == ["a", *shown.values()]


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_csv_file_is_an_empty_table(tmp_path, content):
    (tmp_path / "table.csv").write_text(content)
    assert read(html.csv_table(tmp_path / "table.csv")).cells == []


def test_a_csv_file_that_is_none_is_named(tmp_path):
    (tmp_path / "table.csv").write_text("a\n" + "9" * 200_000)
    with pytest.raises(UserError, match=r"table\.csv is damaged"):
        html.csv_table(tmp_path / "table.csv")


def test_tables_of_markdown_are_found_among_text():
    text = "# A\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n\nText | no table\n\n|c|\n|-|\n|y|"
    first, second = html.markdown_tables(text)
    assert read(first).cells == ["a", "b", "x", "1"]
    assert read(second).cells == ["c", "y"]
    assert html.markdown_tables("no table") == []


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "png"), (".svg", "svg+xml")])
def test_a_picture_is_stored_in_the_page(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(bytes(range(256)))
    content = html.picture(path, "A")
    (data,) = re.findall(rf'src="data:image/{re.escape(kind)};base64,([^"]*)"', content)
    assert base64.b64decode(data) == bytes(range(256))


def test_a_legend_starts_again_after_the_last_colour():
    keys = re.findall(r'class="line (s\d)"', html.legend([str(i) for i in range(9)]))
    assert keys == ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s0"]
