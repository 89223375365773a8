"""Writes one HTML page about runs, sweeps or a folder of results: no network, no script.

    python -m vgg_jax.report runs/vgg16-digits
    python -m vgg_jax.report runs/a runs/b runs/c --out=comparison.html
    python -m vgg_jax.report runs experiments --out=results.html

The page of one run opens with its final accuracy, learning curves, gradients layer by layer and
throughput; tables of published figures, the command, versions and config follow. Run directories
that are named together are compared, and so are the runs in one folder, such as a sweep's: a table
with the config keys that differ, curves in one chart, gradient maps with one scale of colours.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.errors import UserError


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.report", __doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--out", type=Path, help="file to write; default DIR/report.html")
    arguments = parser.parse_args(argv)
    out = arguments.out or arguments.folders[0] / "report.html"
    page = build_report(arguments.folders)
    try:
        out.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give --out=FILE") from error
    print(f"{out}: {len(page) / 2**20:.1f} MiB")
    return 0


def build_report(folders: list[Path]) -> str:
    """Returns the page about everything in some folders and below.

    Raises:
      UserError: a folder is missing or holds nothing to report.
    """
    from vgg_jax.reporting import html
    from vgg_jax.runs.reader import is_run

    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}: give a run directory, a sweep's, or experiments")
    folders = list({folder.resolve(): folder for folder in folders}.values())
    named = [folder for folder in folders if is_run(folder)]
    parts = []
    if len(named) > 1:
        parts.append((f"{len(named)} runs", _named_runs(named)))
    for folder in folders if len(named) < 2 else [f for f in folders if f not in named]:
        found = list(_groups(folder))
        if not found:
            raise UserError(
                f"nothing to report in {folder}: it holds no metrics.jsonl, table or figure"
            )
        parts += found
    body = []
    if len(parts) > 1:
        body.append(html.navigation([(f"part{i}", title) for i, (title, _) in enumerate(parts)]))
    for i, (title, content) in enumerate(parts):
        body += [html.heading(title, anchor=f"part{i}"), *content]
    names = ", ".join(folder.resolve().name for folder in folders)
    return html.page(f"Report: {names}", html.LEAD, body)


def _named_runs(folders: list[Path]) -> list[str]:
    """Returns what there is about run directories, called as tells them apart."""
    from vgg_jax.reporting.comparison import compare_runs
    from vgg_jax.runs.reader import StoredRun

    paths = [folder.resolve() for folder in folders]
    shared = os.path.commonpath([path.parent for path in paths])
    runs = [StoredRun(path, str(path.relative_to(shared))) for path in paths]
    return list(compare_runs(runs))


def _groups(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yields (title, content) for each folder whose runs, or result files, belong together."""
    from vgg_jax.reporting import html
    from vgg_jax.reporting.comparison import compare_runs
    from vgg_jax.reporting.sections import result_files, run_section
    from vgg_jax.runs.reader import StoredRun, find_runs

    base = folder.resolve()
    runs = find_runs(base)
    own_files: dict[Path, list[str]] = {}
    for path, markup in result_files(base, runs):
        shown = markup if "<figure" in markup else html.heading(path.name, 3) + markup
        own_files.setdefault(path.parent, []).append(shown)
    together: dict[Path, list[StoredRun]] = {}
    for run in runs:
        together.setdefault(base if run.path == base else run.path.parent, []).append(run)
    for parent in sorted(together.keys() | own_files.keys()):
        group = together.get(parent, [])
        content = compare_runs(group) if len(group) > 1 else run_section(*group) if group else ()
        yield str(parent.relative_to(base.parent)), [*content, *own_files.get(parent, [])]


if __name__ == "__main__":
    run_command(main)
