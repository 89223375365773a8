"""The pieces of a report page: one file, readable offline, light or dark, on any width."""

import base64
import csv
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from vgg_jax.errors import UserError
from vgg_jax.reporting.svg import COLORS, DASHES, line_style

_MAX_ROWS = 200
_OPEN_ROWS = 30  # a longer table opens at a click
_WRAPPED_CHARACTERS = 40
_MIME = {".png": "image/png", ".svg": "image/svg+xml"}

# Okabe & Ito's colours (`svg.COLORS`), lightened on black and three of them darkened on white, so
# that each line has a contrast of 3 to its ground at least.
_COLORS = (*COLORS[:3], "#c46f9d", "#2b91cb", "#b67c00", *COLORS[6:])
_DARK_COLORS = (
    *("#4da3d9", "#ff8a3d", "#2fc79b", "#e29cc4", "#8fd0f5", "#f5b93d", "#e8e8e8", "#9a9a9a"),
)
_COLOR_RULES = "".join(f"--s{i}:{c};" for i, c in enumerate(_COLORS))
_DARK_COLOR_RULES = "".join(f"--s{i}:{c};" for i, c in enumerate(_DARK_COLORS))
_SERIES_RULES = "".join(
    f".line.s{i}{{stroke:var(--s{i})}}circle.s{i}{{fill:var(--s{i})}}" for i in range(len(DASHES))
)

_STYLE = f"""
:root{{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--text:#1c1e21;--soft:#5c636b;
--line:#dfe2e5;--accent:#0b62a4;{_COLOR_RULES}}}
@media (prefers-color-scheme:dark){{:root{{--page:#14161a;--card:#1c1f24;--text:#e6e7e9;
--soft:#9aa2ab;--line:#33383f;--accent:#7cc0f2;{_DARK_COLOR_RULES}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--page);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}}
main{{max-width:1080px;margin:0 auto;padding:1.5rem 1rem 4rem}}
h1{{font-size:1.7rem;line-height:1.2;margin:.2rem 0}}
h2{{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--line)}}
h3{{font-size:1.02rem;margin:1.6rem 0 .5rem}}
h4{{font-size:.9rem;margin:1rem 0 .4rem}}
h2,h3,h4{{overflow-wrap:anywhere}}
p,.note{{margin:.4rem 0;max-width:88ch}}
.note{{color:var(--soft);font-size:.88rem}}
a{{color:var(--accent)}}
nav ul{{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:.8rem 0}}
.scroll{{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px}}
table{{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.36rem .7rem;text-align:left;white-space:nowrap;
border-bottom:1px solid var(--line)}}
tr:last-child td{{border-bottom:0}}
.named th:first-child,.named td:first-child{{position:sticky;left:0;background:var(--card)}}
td.text{{white-space:normal;min-width:18rem}}
th{{color:var(--soft);font-weight:600}}
td.number,th.number{{text-align:right}}
.charts{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));
gap:.9rem}}
.maps{{grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}}
figure{{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.7rem .8rem .5rem;min-width:0}}
figure.picture{{background:#fff;color:#1c1e21}}
figure img{{display:block;max-width:100%;height:auto;margin:0 auto}}
figcaption{{font-size:.88rem;font-weight:600;margin-bottom:.3rem;overflow-wrap:anywhere}}
svg{{display:block;width:100%;height:auto}}
svg text{{fill:var(--soft);font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}}
svg .label{{fill:var(--text);font-size:12px}}
svg .grid{{stroke:var(--line);stroke-width:1}}
svg .line{{stroke-width:2;stroke-linejoin:round}}
svg polyline{{fill:none}}
svg circle{{stroke-dasharray:none}}
{_SERIES_RULES}
.legend{{display:flex;flex-wrap:wrap;gap:.15rem 1rem;list-style:none;padding:0;margin:.5rem 0;
font-size:.86rem}}
.legend svg{{display:inline-block;width:46px;height:8px;margin-right:.4rem;vertical-align:middle}}
.result{{margin:.6rem 0 .2rem}}
.result strong{{font-size:2.2rem;line-height:1.1;margin-right:.3rem;
font-variant-numeric:tabular-nums}}
details{{margin:.5rem 0}}
summary{{cursor:pointer;padding:.2rem 0;overflow-wrap:anywhere}}
pre{{margin:.3rem 0;padding:.6rem .8rem;background:var(--card);border:1px solid var(--line);
border-radius:8px;font:.82rem/1.45 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;
overflow-wrap:anywhere}}
@media (max-width:600px){{main{{padding:1rem .7rem 3rem}}h1{{font-size:1.4rem}}
th,td{{padding:.32rem .5rem}}
.named th{{white-space:normal}}.named th,.named td{{padding:.32rem .3rem .32rem .4rem}}
.named table{{font-size:.8rem}}
.named td:first-child{{min-width:7rem;white-space:normal;overflow-wrap:anywhere}}
.charts:not(.maps) text{{font-size:13px}}svg .side{{display:none}}}}
@media print{{details{{display:block}}}}
"""


LEAD = "Written by vgg_jax.report. Hover over a line or a cell to read its value."


def page(title: str, lead: str, body: Iterable[str]) -> str:
    """Returns the whole document; it asks for nothing from anywhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Browsers ask for an icon where none is named.
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>"
        f'<p class="note">{escape(lead)}</p>\n' + "\n".join(body) + "\n</main></body></html>\n"
    )


def heading(text: str, level: int = 2, anchor: str = "") -> str:
    """Returns a heading, with an id if it is linked to."""
    identity = f' id="{anchor}"' if anchor else ""
    return f"<h{level}{identity}>{escape(text)}</h{level}>"


def note(text: str) -> str:
    """Returns a small remark."""
    return f'<p class="note">{escape(text)}</p>'


def result(number: str, text: str) -> str:
    """Returns a number in large type, and after it what it is."""
    return f'<p class="result"><strong>{escape(number)}</strong> {escape(text)}</p>'


def navigation(links: Sequence[tuple[str, str]]) -> str:
    """Returns links, (anchor, text), to headings of the page."""
    items = "".join(f'<li><a href="#{anchor}">{escape(text)}</a></li>' for anchor, text in links)
    return f"<nav><ul>{items}</ul></nav>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool = False) -> str:
    """Returns a table that scrolls sideways by itself; columns of numbers are flush right.

    Args:
      header: a heading for each column.
      rows: of cells.
      named: whether the first column names the rows and stays in sight.
    """
    numeric = [
        any(row[i] for row in rows) and all(_is_number(row[i]) for row in rows)
        for i in range(len(header))
    ]

    def line(cells: Sequence[str], tag: str) -> str:
        texts = []
        for number, cell in zip(numeric, cells, strict=True):
            kind = "number" if number else "text" if len(cell) > _WRAPPED_CHARACTERS else ""
            mark = f' class="{kind}"' if kind else ""
            text = escape(cell)
            if tag == "th":  # a long config key wraps on a phone
                text = text.replace(".", ".<wbr>")
            texts.append(f"<{tag}{mark}>{text}</{tag}>")
        return f"<tr>{''.join(texts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    kind = "scroll named" if named else "scroll"
    # Focusable, so that it can be scrolled without a pointer.
    return (
        f'<div class="{kind}" tabindex="0"><table><thead>{line(header, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _is_number(text: str) -> bool:
    return not text or bool(re.fullmatch(r"-|[-+]?[\d.,]+(e[-+]?\d+)?( ?[±%] ?[\d.]*)?", text))


def csv_table(path: Path) -> str:
    """Returns a csv file as a table, of a long one the first rows.

    Raises:
      UserError: the file is none.
    """
    try:
        with path.open(newline="", errors="replace") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except csv.Error as error:
        raise UserError(f"{path} is damaged: {error}") from error
    shown = [[_short(cell) for cell in row] for row in rows[:_MAX_ROWS]]
    left_out = len(rows) - len(shown)
    content = table(header, shown)
    if left_out:
        content += note(f"{left_out} more rows in {path.name}")
    return details(f"{len(rows)} rows", content) if len(rows) > _OPEN_ROWS else content


def markdown_tables(text: str) -> list[str]:
    """Returns the tables of a Markdown text."""
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    tables = []
    for block in found:
        lines = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.strip().splitlines()
        ]
        header, rows = lines[0], lines[2:]
        tables.append(table(header, [row for row in rows if len(row) == len(header)]))
    return tables


def _short(cell: str) -> str:
    """Returns a number with six digits at most, other text as it is."""
    if re.fullmatch(r"-?\d+\.\d{5,}(e-?\d+)?", cell):
        return f"{float(cell):.5g}"
    return cell


def captioned_figure(caption: str, content: str) -> str:
    """Returns a chart in its frame."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{content}</figure>"


def picture(path: Path, caption: str) -> str:
    """Returns an image file, stored in the page itself, on white as it was drawn."""
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:{_MIME[path.suffix]};base64,{data}"
    return (
        f'<figure class="picture"><figcaption>{escape(caption)}</figcaption>'
        f'<img src="{source}" alt="{escape(caption)}"></figure>'
    )


def charts(figures: Iterable[str], *, narrow: bool = False) -> str:
    """Returns figures side by side, two if there is room, or three narrow ones."""
    return f'<div class="charts{" maps" if narrow else ""}">{"".join(figures)}</div>'


def legend(names: Sequence[str]) -> str:
    """Returns the key to the lines of `svg.line_chart`."""
    items = "".join(
        f'<li><svg viewBox="0 0 46 8" aria-hidden="true"><line {line_style(i)} x2="46" y1="4" '
        f'y2="4"/></svg>{escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def details(summary: str, content: str) -> str:
    """Returns what opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def code(text: str) -> str:
    """Returns text as it is typed."""
    return f"<pre>{escape(text)}</pre>"
