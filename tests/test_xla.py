"""The compiler's options: accepted, for a CPU alone, and of use."""

import os
import subprocess
import sys

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


def test_programs_in_the_cache_that_cannot_be_read_are_compiled_without_a_word(tmp_path):
    code = "import jax; from vgg_jax.xla import enable_compilation_cache as on; on()\n"
    code += "print(jax.jit(lambda x: x + 1)(1))"
    settings = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    settings["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    for _ in range(2):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (found.stdout, found.stderr) == ("2\n", "")
        entries = list(tmp_path.glob("*-cache"))
        assert entries
        for path in entries:  # as if another process had written only half of it so far
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
