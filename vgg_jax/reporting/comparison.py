"""What a report says about several runs beside each other."""

from collections.abc import Iterator, Sequence

from vgg_jax.errors import UserError
from vgg_jax.reporting import html
from vgg_jax.reporting.facts import data_split, end, numbers, percent, protocol
from vgg_jax.reporting.probes import Grid, grid_charts
from vgg_jax.reporting.sections import (
    GRADIENTS,
    beside_published,
    differing_keys,
    how_to_repeat,
    learning_curves,
    stored_grids,
    throughput,
)
from vgg_jax.reporting.svg import DASHES
from vgg_jax.runs.reader import SalvagedRun, StoredRun

MAX_LINES = len(DASHES)
_MAP_WIDTH = 340
_OPEN_MAPS = GRADIENTS[:2]  # the maps of other quantities open at a click


def compare_runs(found: Sequence[StoredRun]) -> Iterator[str]:
    """Yields everything about runs that belong together, damaged or unfinished ones included."""
    runs = [SalvagedRun(run.path, run.label) for run in found]
    yield comparison_table(runs)
    yield from map(html.note, remarks(runs))
    drawn = runs[:MAX_LINES]
    if len(runs) > len(drawn):
        yield html.note(
            f"Lines and maps are of the first {len(drawn)} of {len(runs)} runs: name the folders "
            "of other runs to draw those."
        )
    yield from learning_curves(drawn)
    yield from layer_maps(drawn)
    yield from throughput(drawn)
    yield from beside_published(runs)
    yield from how_to_repeat(runs)


def comparison_table(runs: Sequence[StoredRun]) -> str:
    """Returns a table with a line for each run and a column for each config key that differs."""
    keys = differing_keys(runs)
    header = ["run", *keys, "top-1", *numbers(runs[0]), "end"]
    rows = [
        [
            run.name,
            *(str(run.config.get(key, "")) for key in keys),
            percent(run.last("eval/top1")),
            *numbers(run).values(),
            end(run),
        ]
        for run in runs
    ]
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    shown = [[row[i] for i in kept] for row in rows]
    return html.table([header[i] for i in kept], shown, named=True)


def remarks(runs: Sequence[SalvagedRun]) -> Iterator[str]:
    """Yields the protocols of the accuracies, and a line about each run that is not whole."""
    protocols: dict[str, list[str]] = {}
    for run in runs:
        if run.curve("eval/top1"):
            protocols.setdefault(protocol(run), []).append(run.name)
    for words, names in protocols.items():
        of = f" of {', '.join(names)}" if len(protocols) > 1 else ""
        yield f"Protocol{of}: {words}."
    if len({data_split(run) for run in runs if run.curve("eval/top1")}) > 1:
        yield "Accuracies on different data do not compare."
    for run in runs:
        if run.damage:
            yield f"{run.name} is shown without what is damaged: {'; '.join(run.damage)}."
        elif not run.lines:
            yield f"{run.name} has stored no numbers yet."
        elif not run.summary:
            yield f"{run.name} has not ended: shown is what it stored up to now."


def layer_maps(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields, for each quantity that probes measured, the charts of all runs side by side."""
    quantities: dict[str, list[tuple[str, int, Grid]]] = {}
    damaged = []
    for place, run in enumerate(runs):
        try:
            grids = stored_grids(run)
        except UserError as error:
            damaged.append(f"{run.name} is shown without its probes: {error}.")
            continue
        for grid in grids:
            several = sum(other.quantity == grid.quantity for other in grids) > 1
            caption = f"{run.name}: {grid.caption}" if several else run.name
            quantities.setdefault(grid.quantity, []).append((caption, place, grid))
    if not quantities and not damaged:
        return
    yield html.heading("Gradients per layer", 3)
    yield from map(html.note, damaged)
    first = [name for name in GRADIENTS if name in quantities]
    for name in [*first, *sorted(quantities.keys() - set(first))]:
        charts = html.charts(grid_charts(quantities[name], _MAP_WIDTH), narrow=True)
        if name in _OPEN_MAPS:
            yield html.heading(f"{name}, one scale of colours", 4)
            yield charts
        else:
            yield html.details(name, charts)
