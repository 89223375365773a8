"""Tables and the figure of the stored distances."""

import itertools
from pathlib import Path

import numpy as np

from experiments.perceptual_distance.convolutions import IMPORTED, SWAPPED
from experiments.perceptual_distance.distortions import STRENGTHS, UNITS
from vgg_jax.evaluation.scoring import wilson_interval
from vgg_jax.features.sanity_check import rank_correlations
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

DISTANCES, CONVOLUTIONS = "distances.csv.gz", "convolutions.csv"
COLUMNS = ("photo", "distortion", "strength", "seed", "lpips", "psnr", "ssim")
# How a metric is written, and the sign that makes more of it a larger distance.
METRICS = {"lpips": ("LPIPS", 1), "psnr": ("PSNR [dB]", -1), "ssim": ("SSIM", -1)}
FORMATS = {"lpips": ".3f", "psnr": ".2f", "ssim": ".3f"}
Cell = tuple[str, float]
CELLS: tuple[Cell, ...] = tuple((name, float(s)) for name, all_ in STRENGTHS.items() for s in all_)
# Pairs that the question names; others are found.
NAMED_PAIRS: tuple[tuple[Cell, Cell], ...] = (
    (("shift", 1.0), ("blur", 1.0)),
    (("shift", 2.0), ("blur", 2.0)),
    (("shift", 2.0), ("noise", 16.0)),
    (("blur", 2.0), ("noise", 32.0)),
    (("blur", 2.0), ("jpeg", 10.0)),
)
FOUND_PAIRS = 3  # of each kind


def draw(out: Path) -> None:
    """Writes table.md and distances.png from the stored tables in a folder."""
    table = read_table(out / DISTANCES)
    values = by_photo(table)
    parts = [means(values, table), agreement(values), pairs(values)]
    if (out / CONVOLUTIONS).exists():
        parts.append(convolutions(read_table(out / CONVOLUTIONS)))
    (out / "table.md").write_text("\n".join(parts))
    _plot(values, out / "distances")


def by_photo(table: Table, seed: int | None = None) -> dict[str, np.ndarray]:
    """Returns by metric (photos, cells), in the order of `CELLS`; of the noise the mean over seeds.

    Args:
      table: of `COLUMNS`.
      seed: one of the noise's alone.
    """
    strength, photo = table["strength"].astype(float), table["photo"].astype(int)
    found = {metric: np.empty((photo.max() + 1, len(CELLS))) for metric in METRICS}
    for column, (distortion, wanted) in enumerate(CELLS):
        keep = (table["distortion"] == distortion) & (strength == wanted)
        if seed is not None and distortion == "noise":
            keep &= table["seed"] == seed
        counts = np.bincount(photo[keep])
        for metric in METRICS:
            sums = np.bincount(photo[keep], table[metric][keep].astype(float))
            found[metric][:, column] = sums / counts
    return found


def means(values: dict[str, np.ndarray], table: Table) -> str:
    """Returns the mean of each metric, its interval over photos, and how much seeds matter."""
    seeds = [by_photo(table, int(seed)) for seed in np.unique(table["seed"])]
    rows = []
    for column, (distortion, strength) in enumerate(CELLS):
        row = [distortion, f"{strength:g}"]
        for metric, digits in FORMATS.items():
            mean, spread = mean_interval(values[metric][:, column])
            row.append(f"{mean:{digits}} ± {spread:{digits}}")
        noise = distortion == "noise"
        one_seed = [each["lpips"][:, column].mean() for each in seeds]
        row.append(f"{np.ptp(one_seed):.1g}" if noise else "")
        row.append(f"{20 * np.log10(255 / strength):.2f}" if noise else "")
        rows.append(row)
    head = ["distortion", "strength", *(name for name, _ in METRICS.values())]
    head += ["LPIPS, range over seeds", "PSNR without clipping"]
    return markdown(head, rows, "lrrrrrr")


def distance(values: dict[str, np.ndarray], metric: str) -> np.ndarray:
    """Returns (photos, cells), larger for what a metric calls worse."""
    return METRICS[metric][1] * values[metric]


def agreement(values: dict[str, np.ndarray]) -> str:
    """Returns how alike metrics rank: all cells of a photo, and the photos of a cell."""
    rows = []
    for one, other in itertools.combinations(METRICS, 2):
        pair = [distance(values, metric) for metric in (one, other)]
        cells = mean_interval(rank_correlations(*pair))
        photos = mean_interval(rank_correlations(pair[0].T, pair[1].T))
        names = " and ".join(METRICS[metric][0].split()[0] for metric in (one, other))
        rows.append([names, *(f"{mean:.3f} ± {spread:.3f}" for mean, spread in (cells, photos))])
    head = ["rank correlation", "of a photo's 20 distortions", "of photos, same distortion"]
    return markdown(head, rows, "lrr")


def found_pairs(values: dict[str, np.ndarray], other: str) -> list[tuple[Cell, Cell]]:
    """Returns the pairs that LPIPS and another metric rank most oppositely, each distortion once.

    The first of a pair is what LPIPS calls worse. The measure is the smaller one of the two
    majorities.
    """
    perceptual, others = (distance(values, metric) for metric in ("lpips", other))
    candidates = []
    for pair in itertools.permutations(CELLS, 2):
        first, second = (CELLS.index(cell) for cell in pair)
        if pair[0][0] != pair[1][0]:
            majorities = (
                np.mean(perceptual[:, first] > perceptual[:, second]),
                np.mean(others[:, first] < others[:, second]),
            )
            candidates.append((min(majorities), pair))
    chosen: dict[tuple[str, str], tuple[Cell, Cell]] = {}
    for _, pair in sorted(candidates, key=lambda each: -each[0]):
        chosen.setdefault((pair[0][0], pair[1][0]), pair)
    return list(chosen.values())[:FOUND_PAIRS]


def pairs(values: dict[str, np.ndarray]) -> str:
    """Returns for pairs of distortions how many photos each metric has the first one worse in."""
    rows = []
    groups = {"named": NAMED_PAIRS} | {
        f"most against {METRICS[other][0].split()[0]}": found_pairs(values, other)
        for other in ("psnr", "ssim")
    }
    for why, members in groups.items():
        for pair in members:
            cells = [f"{distortion} {strength:g}" for distortion, strength in pair]
            column = [CELLS.index(cell) for cell in pair]
            row = [why, *cells]
            for metric in METRICS:
                worse = distance(values, metric)[:, column]
                count = int(np.sum(worse[:, 0] > worse[:, 1]))
                low, high = wilson_interval(count, len(worse))
                row.append(f"{100 * count / len(worse):.1f} ({100 * low:.0f} to {100 * high:.0f})")
            rows.append(row)
    names = [f"{name.split()[0]}, first is worse [%]" for name, _ in METRICS.values()]
    return markdown(["pair", "first", "second", *names], rows, "lllrrr")


def convolutions(table: Table) -> str:
    """Returns the comparison of imported convolutions with those of VGG-19."""
    quantities = [
        *(("alignment", name) for name in ("conv1_1", "pool1", "pool5")),
        *(("best correlation", name) for name in ("conv1_1", "pool1")),
        ("animals told from things", "pool5"),
    ]
    samples = {
        net: [_samples(select(table, net=net, quantity=q, endpoint=e)) for q, e in quantities]
        for net in dict.fromkeys(table["net"])
    }
    pair = zip(samples[IMPORTED], samples[SWAPPED], strict=True)
    samples["imported, RGB minus BGR"] = [right - wrong for right, wrong in pair]
    rows = []
    for net, columns in samples.items():
        intervals = (mean_interval(values) for values in columns if len(values))
        cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in intervals]
        rows.append([net, *[""] * (len(quantities) - len(cells)), *cells])
    head = ["net", *(f"{quantity}, {endpoint}" for quantity, endpoint in quantities)]
    return markdown(head, rows, "lrrrrrr")


def _samples(table: Table) -> np.ndarray:
    """Returns the values by group; of several seeds the mean over groups of each."""
    seeds = np.unique(table["seed"])
    if len(seeds) < 2:
        return table["value"]
    return np.array([select(table, seed=seed)["value"].mean() for seed in seeds])


def _plot(values: dict[str, np.ndarray], path: Path) -> None:
    with figure(path, width=11, height=7) as drawing:
        panels = drawing.subplots(len(METRICS), len(STRENGTHS), sharey="row", sharex="col")
        for line, (metric, (name, _)) in zip(panels, METRICS.items(), strict=True):
            line[0].set_ylabel(name)
            for axes, (distortion, strengths), color in zip(
                line, STRENGTHS.items(), COLORS, strict=False
            ):
                columns = [CELLS.index((distortion, float(s))) for s in strengths]
                low, middle, high = np.quantile(values[metric][:, columns], (0.1, 0.5, 0.9), axis=0)
                places = range(len(strengths))
                axes.fill_between(places, low, high, color=color, alpha=0.25, linewidth=0)
                axes.plot(places, middle, "o-", color=color)
                axes.set_xticks(places, [f"{s:g}" for s in strengths])
        for axes, unit in zip(panels[-1], UNITS.values(), strict=True):
            axes.set_xlabel(unit)
