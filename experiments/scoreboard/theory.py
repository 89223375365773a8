"""What theory predicts for networks at initialisation, beside every cell that was measured."""

from collections.abc import Iterator

from experiments.init_gradients.grid import IMAGE_CHANNELS, WIDE_STAGES
from experiments.init_gradients.tables import decay, growth, samples, theory
from experiments.scoreboard.ours import GRADIENTS, gradient_cells
from experiments.scoreboard.rows import Measured, Row
from vgg_jax.probes.theory import batch_norm_growth

# Chosen after the cells were measured: half the mean of ten seeds' spread is up to 8%.
DECAY, GROWTH, CHOSEN = "10%", "1%", "after"
# Without norm these differ from He's fan-in start by a factor per layer alone; behind batch norm
# every initialiser of independent weights gives the same network.
RESCALED = ("he_fan_out", "glorot_normal", "lecun", "paper", "paper_variance")


def theory_rows() -> Iterator[Row]:
    """Yields a row per cell of `init_gradients`."""
    cells = gradient_cells()
    for key, scales in sorted(cells.items()):
        net, init, norm, activation, pooling, data, batch_size = key
        images = f"{data}, {IMAGE_CHANNELS.get(data, 3)} channels, batches of {batch_size}"
        grows = net in WIDE_STAGES and activation == "relu"
        measured = growth(scales) if grows else decay(scales)
        what = "growth per layer" if grows else "first over last convolution"
        yield Row(
            quantity=f"gradient RMS, {what}: {net}, {init}, norm {norm}, {activation}, "
            f"pooling {pooling}, {images}",
            kind="identity" if _rescales(key, cells) else "theory",
            source="probes/theory.py: " + ("batch_norm_growth" if grows else "predict_signals"),
            theirs=batch_norm_growth(samples(key)) if grows else theory(key).backward,
            tolerance=GROWTH if grows else DECAY,
            chosen=CHOSEN,
            ours=Measured(*measured, len(scales), GRADIENTS),
            reason=_reason(key),
        )


def _rescales(key: tuple, cells: dict) -> bool:
    """Says whether a cell is He's fan-in cell up to a factor per layer."""
    net, init, norm, activation, *rest = key
    he = (net, "he_fan_in", norm, activation, *rest)
    alike = norm == "batch" or activation == "relu"
    return init in RESCALED and alike and he in cells


def _reason(key: tuple) -> str:
    """Returns why theory may fail for a cell."""
    net, _, norm, activation, pooling, data, _ = key
    if norm == "batch" and net in WIDE_STAGES and activation == "relu":
        return "some of many samples of three channels point nearly the same way"
    if norm == "batch" and activation != "relu":
        return "samples of three channels correlate, which the theory takes as independent"
    if pooling != "none":
        return "neighbours correlate where they are pooled; the theory takes them as independent"
    if norm == "batch" and data == "cifar10":
        return "neighbouring pixels of photos correlate"
    return ""
