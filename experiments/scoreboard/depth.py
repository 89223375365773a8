"""Gradients through blocks, their growth and how alike they are, beside closed forms."""

import itertools
from collections.abc import Iterator

import numpy as np

from experiments.depth_limit.nets import KINDS
from experiments.depth_limit.report import (
    GRADIENTS,
    VARIANCES,
    blocks_of,
    cells,
    growth_from_variances,
    normalized,
    predicted,
    profile_of,
    widest,
)
from experiments.gradient_profile.coherence import CORRELATION
from experiments.gradient_profile.report import BORDERS, COHERENCE
from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import Measured, Row
from vgg_jax.probes.block_theory import block_gradient_correlation
from vgg_jax.runs.tables import read_table, select

DEPTH = "experiments/depth_limit/results/full"
GROWTH = f"{DEPTH}/{GRADIENTS}"
ALIKE = f"experiments/gradient_profile/results/full/{COHERENCE}"
RESOLVED = 0.006  # correlation that five seeds tell from zero
BORDERLESS = "zero padding, which the closed form leaves out; see periodic maps"
WIDE = "the closed form is that of wide nets, these have 32 channels"
DEEP = "the variances of deep layers are not those assumed; with the measured ones it is"


def depth_rows() -> Iterator[Row]:
    """Yields a row per kind and depth: growth of the gradient, and correlation where resolved."""
    table, variances = read_table(ROOT / GROWTH), read_table(ROOT / DEPTH / VARIANCES)
    channels = widest(table)
    for layers, kind in cells(select(table, channels=channels), "layers", "kind"):
        fixup = "fixup" in KINDS[kind]
        reason = ""
        if normalized(kind):
            growth = growth_from_variances(variances, kind, layers, channels).mean()
            reason = f"{DEEP} {growth:.4g}"
        yield Row(
            f"ln of the gradient, first over last block: {kind}, {layers} layers",
            "identity" if fixup else "theory",
            "Fixup's zero branches" if fixup else "probes/block_theory.py: block_gradients",
            float(np.log(predicted(kind, int(layers))[0])),
            "0.2",
            "after",
            Measured.mean(profile_of(table, kind, layers, channels)[:, 0], GROWTH),
            reason,
        )
    table = read_table(ROOT / ALIKE)
    for border, (layers, kind) in itertools.product(BORDERS, cells(table, "layers", "kind")):
        depth = blocks_of(int(layers))
        theirs = float(block_gradient_correlation(CORRELATION, depth, **KINDS[kind])[-1])
        if theirs >= RESOLVED:
            maps = ", maps that continue periodically" if border == "periodic" else ""
            found = select(table, kind=kind, layers=layers, border=border)["value"]
            yield Row(
                f"correlation of gradients at two inputs: {kind}, {layers} layers{maps}",
                "theory",
                "probes/block_theory.py: block_gradient_correlation",
                theirs,
                "10%",
                "after",
                Measured.mean(found, ALIKE),
                BORDERLESS if border == "zero" else WIDE,
            )
