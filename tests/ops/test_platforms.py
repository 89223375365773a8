"""One form of an operation in a program for this machine, all of them in one for any."""

import jax
import jax.numpy as jnp
import pytest

from vgg_jax.ops.platforms import every_platform, per_platform


def operation(x: jax.Array) -> jax.Array:
    return per_platform(x, cpu=jnp.sin, tpu=jnp.cos, default=jnp.tan)


@pytest.mark.parametrize(
    ("backend", "expected"), [("cpu", jnp.sin), ("tpu", jnp.cos), ("gpu", jnp.tan)]
)
def test_the_form_of_the_default_backend_is_the_only_one(backend, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert str(jax.make_jaxpr(lambda x: operation(x))(1.0)) == str(jax.make_jaxpr(expected)(1.0))


@pytest.mark.parametrize(
    ("platform", "expected"), [("cpu", "sine"), ("tpu", "cosine"), ("cuda", "tan")]
)
def test_a_function_that_was_traced_here_can_be_lowered_for_any(platform, expected):
    function = jax.jit(operation)
    assert "stablehlo.sine" in function.lower(1.0).as_text()
    with every_platform():
        lowered = function.trace(1.0).lower(lowering_platforms=(platform,)).as_text()
    assert f"stablehlo.{expected}" in lowered
    assert function(1.0) == jnp.sin(1.0)
