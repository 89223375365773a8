"""Layer scales and statistics of functions whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.probes.gradients import layer_scales, layer_statistics


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


def test_statistics_of_two_layers():
    """Against the chain rule written out for x -> relu(x A) B, loss the sum of the outputs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 1, 1, 3)).astype(np.float32)
    kernels = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4, 2))]
    params = {"one": {"kernel": kernels[0]}, "two": {"kernel": kernels[1]}}

    def loss_fn(params, perturbations):
        first = x @ params["one"]["kernel"] + perturbations.get("z1", 0)
        second = jax.nn.relu(first) @ params["two"]["kernel"] + perturbations.get("z2", 0)
        return jnp.sum(second), {"z1": first, "z2": second}

    measured, loss = layer_statistics(
        loss_fn,
        params,
        {"one": "z1", "two": "z2"},
        jax.nn.relu,
        lambda grads: jax.tree.map(lambda g: -0.1 * g, grads),
    )
    z = x.reshape(5, 3) @ kernels[0]
    relu = np.maximum(z, 0)
    gradient_z = (z > 0) * kernels[1].sum(1)
    gradients = [x.reshape(5, 3).T @ gradient_z, relu.T @ np.ones((5, 2))]
    assert float(loss) == pytest.approx((relu @ kernels[1]).sum(), rel=1e-5)
    for i, layer in enumerate(params):
        norm, size = np.linalg.norm(gradients[i]), np.linalg.norm(kernels[i])
        for quantity, expected in (
            ("weight_grad_norm", norm),
            ("param_norm", size),
            ("grad_param_ratio", norm / size),
            ("update_ratio", 0.1 * norm / size),
        ):
            assert float(measured[quantity][layer]) == pytest.approx(expected, rel=1e-5)
    rms = np.sqrt(np.mean(gradient_z**2))
    assert float(measured["activation_grad_rms"]["one"]) == pytest.approx(rms, rel=1e-5)
    assert float(measured["activation_grad_rms"]["two"]) == pytest.approx(1)
    assert float(measured["saturation_fraction"]["one"]) == pytest.approx(np.mean(z <= 0))
    assert "two" not in measured["dead_fraction"]  # no activation
