"""The contestants of the throughput benchmark compute the same network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.throughput import run
from experiments.throughput.contestants import PlainFlax, Workload
from vgg_jax.models import VGG
from vgg_jax.models.variants import resolve_stages

STAGES = ("3-4", "3-5 x2")


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_plain_flax_is_the_same_network(norm: str) -> None:
    """Initialised alike and given the same parameters, the logits are equal."""
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    ours = VGG(
        stages=STAGES, num_classes=3, head="cifar", head_features=(6, 7), head_window=2, norm=norm
    )
    plain = PlainFlax(resolve_stages("", STAGES), norm, (6, 7, 3), jnp.float32)
    variables = jax.jit(ours.init)(jax.random.key(1), images)
    layers = variables["params"]
    convs = [name for name in layers if name.startswith("conv")]
    params = {f"Conv_{i}": layers[name] for i, name in enumerate(convs)}
    for i, name in enumerate(("fc6", "fc7", "fc8")):
        kernel = layers[name]["kernel"]
        params[f"Dense_{i}"] = layers[name] | {"kernel": kernel.reshape(-1, kernel.shape[-1])}
    statistics = {}
    if norm == "batch":
        for i, name in enumerate(convs):
            params[f"BatchNorm_{i}"] = layers[name.replace("conv", "bn")]
            statistics[f"BatchNorm_{i}"] = variables["batch_stats"][name.replace("conv", "bn")]
    desired, _ = ours.apply(variables, images)
    actual, _ = plain.apply({"params": params, "batch_stats": statistics}, images, train=False)
    np.testing.assert_allclose(actual, desired, 1e-5, 1e-5)


def test_a_product_counts_for_what_it_is() -> None:
    """Net D at 224 pixels: 30.94 GFLOP, twice its 15.47 GMAC."""
    flops = run.flops_per_image(Workload("D", "none", 224, 1, "float32"))
    assert flops == pytest.approx(30.94e9, rel=1e-3)
