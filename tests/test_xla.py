"""The compiler's options: accepted, for a CPU alone, and of use."""

import jax
import pytest

from vgg_jax.xla import DRAWING, NETWORK, on_cpu


@pytest.mark.parametrize("options", [NETWORK, DRAWING])
def test_options_are_for_a_cpu_alone(options):
    assert on_cpu(options, "tpu") is None
    assert on_cpu(options, "cuda") is None
    assert on_cpu(options) == on_cpu(options, "cpu") == options
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2
