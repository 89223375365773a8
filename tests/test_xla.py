"""The compiler's options: accepted, for a CPU alone, and of use."""

import os

import jax
import pytest

from vgg_jax.xla import DRAWING, NETWORK, make_deterministic, on_cpu


@pytest.mark.parametrize("options", [NETWORK, DRAWING])
def test_options_are_for_a_cpu_alone(options):
    assert on_cpu(options, "tpu") is None
    assert on_cpu(options, "cuda") is None
    assert on_cpu(options) == on_cpu(options, "cpu") == options
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2


def test_determinism_is_a_flag_that_xla_knows_beside_those_given(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    for _ in range(2):
        make_deterministic()
    first, second = os.environ["XLA_FLAGS"].split()
    assert first == "--xla_backend_optimization_level=0"
    name = second.removeprefix("--").partition("=")[0]
    assert jax.jit(lambda x: x + 1, compiler_options={name: True})(1) == 2
