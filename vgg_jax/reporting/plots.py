"""One house style for figures: colours that colour-blind readers tell apart, png and svg."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe & Ito (2008), without yellow, which is too faint for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "vgg_jax",  # the same figure gives the same file
}


@contextmanager
def figure(path: Path, width: float = 8.0, height: float = 4.0) -> Iterator[Figure]:
    """Hands out a figure and writes it as `path`.png and `path`.svg when the block ends.

    Args:
      path: without suffix.
      width: inches.
      height: inches.
    """
    with mpl.rc_context(_STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawing)
        yield drawing
        drawing.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
        drawing.savefig(path.with_suffix(".svg"), metadata={"Date": None})
