"""One house style for figures: colours that colour-blind readers tell apart, as PNG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vgg_jax.reporting.svg import COLORS

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


@contextmanager
def figure(path: Path, width: float = 8.0, height: float = 4.0) -> Iterator[Figure]:
    """Hands out a figure and writes it as `path`.png when the block ends.

    Args:
      path: without suffix.
      width: inches.
      height: inches.
    """
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(width, height))
        canvas = FigureCanvasAgg(drawing)
        yield drawing
        drawing.dpi = mpl.rcParams["savefig.dpi"]
        canvas.draw()  # `savefig` would go through the figure twice, the first time for its layout
    _save_with_palette(Image.fromarray(np.asarray(canvas.buffer_rgba())), path.with_suffix(".png"))


def _save_with_palette(picture: Image.Image, path: Path) -> None:
    """Writes a PNG of at most 256 colours: a figure looks the same and takes a third."""
    few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def band(axes: Axes, x: np.ndarray, samples: np.ndarray, **line: Any) -> None:
    """Draws the geometric mean over the first axis as a line, in a band from least to largest.

    Args:
      axes: where to; a logarithmic y axis suits it.
      x: (points,).
      samples: positive, (repetitions, points).
      **line: properties of the line, its label among them.
    """
    (drawn,) = axes.plot(x, np.exp(np.log(samples).mean(0)), **line)
    axes.fill_between(
        x, samples.min(0), samples.max(0), color=drawn.get_color(), alpha=0.25, linewidth=0
    )


def heat_map(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[Any],
    columns: Sequence[Any],
    *,
    label: str,
    diverging: float | None = None,
    numbers: str | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draws values (rows, columns) as colours, with a colour bar; NaN stays white.

    Args:
      axes: where to.
      values: what to show.
      rows: tick labels, top to bottom.
      columns: tick labels, left to right; of many, some are shown.
      label: of the colour bar, with its unit.
      diverging: the value that is drawn white, colours going apart on both sides of it; None for a
        scale from dark to light.
      numbers: format in which every cell's value is written into it, such as ".1f".
      limits: lowest and highest of the colour scale; by default those of the values.
    """
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    if diverging is not None:
        reach = max(high - diverging, diverging - low, 1e-9)
        low, high = diverging - reach, diverging + reach
    # PuOr and viridis: told apart with every common colour blindness.
    image = axes.imshow(
        values,
        aspect="auto",
        cmap="viridis" if diverging is None else "PuOr",
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    step = -(-len(columns) // 20)
    axes.set_xticks(range(0, len(columns), step), list(columns)[::step])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes, label=label)
    if numbers is None:
        return
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            shade = image.cmap(image.norm(value))[:3]
            dark = np.dot(shade, (0.299, 0.587, 0.114)) < 0.5
            axes.text(
                column,
                row,
                format(value, numbers),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
