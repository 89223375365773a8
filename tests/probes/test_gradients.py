"""Layer scales of a function whose gradients are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.probes.gradients import layer_scales


def test_scales_of_a_product_chain():
    def forward(perturbations):
        a = jnp.array([1.0, 2.0, 3.0]) + perturbations.get("a", 0)
        b = 4 * a + perturbations.get("b", 0)
        return jnp.sum(b**2), {"a": a, "b": b}

    values, gradients = layer_scales(forward, ["a", "b"])
    b = 4 * np.array([1.0, 2.0, 3.0])
    rms = {"a": np.sqrt(14 / 3), "b": np.sqrt(np.mean(b**2))}
    assert {k: float(v) for k, v in values.items()} == pytest.approx(rms, rel=1e-6)
    expected = {"a": 8 * rms["b"], "b": 2 * rms["b"]}
    assert {k: float(v) for k, v in gradients.items()} == pytest.approx(expected, rel=1e-6)
