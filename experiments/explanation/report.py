"""Tables and pictures: ten photos explained, and the maps of randomised networks."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vgg_jax.errors import UserError
from vgg_jax.features.attribution import METHODS
from vgg_jax.features.explanation import CAPTIONS, Explanation
from vgg_jax.features.sanity_check import rank_correlations
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

TABLE, EXAMPLES = "sanity.csv.gz", "examples.jpg"
COLUMNS = ("photo", "seed", "layer", "method", "spearman", "ssim")
METRICS = {"spearman": "rank correlation", "ssim": "SSIM"}
OTHER_PHOTO = "another photo"
PANEL, STRIP = 80, 12  # pixels: a side of a panel, the height of its caption
CLASS_MODEL = "class model"


def likeness(original: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Returns Spearman's correlation of two maps (h, w), and their SSIM (a window of 7 x 7).

    For SSIM each map is shifted and scaled so that 0 and 1 are its smallest value and its 99th
    percentile, and clipped there.

    Raises:
      UserError: scikit-image is not installed.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise UserError("SSIM needs scikit-image: pip install 'vgg_jax[metrics]'") from error
    scaled = [_scaled(values) for values in (original, other)]
    return {
        "spearman": float(rank_correlations(original.reshape(1, -1), other.reshape(1, -1))[0]),
        "ssim": float(structural_similarity(*scaled, data_range=1.0)),
    }


def _scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), np.percentile(values, 99)
    return np.clip((values - low) / (high - low if high > low else 1), 0, 1)


def draw(out: Path) -> None:
    """Writes table.md and sanity.png from the stored comparisons."""
    table = read_table(out / TABLE)
    # From the top: fc8, ..., conv1_1.
    layers = sorted({*table["layer"]} - {OTHER_PHOTO}, reverse=True)
    parts = [_markdown(table, metric, [*layers, OTHER_PHOTO]) for metric in METRICS]
    (out / "table.md").write_text("\n".join(parts))
    with figure(out / "sanity", width=8, height=3.6) as drawing:
        for axes, metric in zip(drawing.subplots(1, 2), METRICS, strict=True):
            for method, color in zip(METHODS, COLORS, strict=False):
                found = [interval(table, metric, method, layer) for layer in layers]
                known = [(i, *each[:2]) for i, each in enumerate(found) if each]
                if known:
                    places, means, spreads = zip(*known, strict=True)
                    label, line = CAPTIONS[method], "o-" if len(known) > 2 else "o"
                    axes.errorbar(places, means, spreads, fmt=line, ms=4, color=color, label=label)
                other = interval(table, metric, method, OTHER_PHOTO)
                if other:
                    axes.axhline(other[0], color=color, linestyle=":", linewidth=1)
            axes.set_xticks(range(len(layers)), layers, rotation=60)
            axes.set_xlabel("drawn anew: this layer and all above it")
            axes.set_ylabel(f"{METRICS[metric]} with the original map")
        drawing.legend(
            *drawing.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4
        )


def interval(table: Table, metric: str, method: str, layer: str) -> tuple[float, float, int] | None:
    """Returns mean, half the 95% interval over photos, and the number of seeds.

    Of each photo the mean over seeds counts. None if nothing was measured.
    """
    rows = select(table, method=method, layer=layer)
    photos = np.unique(rows["photo"])
    if not len(photos):
        return None
    values = rows[metric].astype(float)
    by_photo = np.array([values[rows["photo"] == photo].mean() for photo in photos])
    return *mean_interval(by_photo), len(np.unique(rows["seed"]))


def _markdown(table: Table, metric: str, layers: list[str]) -> str:
    head = [f"{METRICS[metric]}; down to", "seeds", *(CAPTIONS[method] for method in METHODS)]
    rows = []
    for layer in layers:
        found = [interval(table, metric, method, layer) for method in METHODS]
        cells = [f"{each[0]:.2f} ± {each[1]:.2f}" if each else "not measured" for each in found]
        rows.append([layer, min(each[2] for each in found if each), *cells])
    return markdown(head, rows, "lrrrrr")


def draw_examples(
    originals: dict[int, Explanation], models: dict[int, np.ndarray], path: Path
) -> None:
    """Writes a JPEG: a row for each photo, a column for each method, and the class model."""
    rows = [
        {caption: _small(panel) for caption, panel in explanation.panels().items()}
        | {CLASS_MODEL: stretched(_small(models[number]))}
        for number, explanation in originals.items()
    ]
    size = (len(rows[0]) * (PANEL + 2), STRIP + len(rows) * (PANEL + STRIP))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(STRIP - 4)
    short = {CAPTIONS["guided"]: "guided backprop."}
    for line, panels in enumerate(rows):
        top = STRIP + line * (PANEL + STRIP)
        for column, (caption, panel) in enumerate(panels.items()):
            left = column * (PANEL + 2)
            if column == 0:
                draw.text((left, top), caption, "black", font)
            elif line == 0:
                draw.text((left, 0), short.get(caption, caption), "black", font)
            canvas.paste(Image.fromarray(panel), (left, top + STRIP))
    canvas.save(path, quality=55, optimize=True)


def _small(panel: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(panel).resize((PANEL, PANEL), Image.Resampling.BOX))


def stretched(picture: np.ndarray) -> np.ndarray:
    """Raises the contrast of a uint8 picture (H, W, 3) until 3 values in 1000 are clipped."""
    centred = picture - picture.mean((0, 1))
    reach = max(float(np.percentile(np.abs(centred), 99.7)), 1.0)
    return np.clip(128 + 127 * centred / reach, 0, 255).astype(np.uint8)
