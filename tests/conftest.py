"""Fixtures shared by all tests."""

import gc
import os
import tempfile
from pathlib import Path

import pytest
from jaxlib import version as jaxlib_version

# Before JAX starts. Small programs spend their time in the compiler: let it optimise less, and keep
# what it made for the processes that tests start. Several devices, so that sharding is real.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # set already in the workers of pytest-xdist
    CACHE = tempfile.TemporaryDirectory(prefix="vgg_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = CACHE.name
FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if jaxlib_version.__version_info__ < (0, 11):  # an unknown flag ends the process
    FLAGS += [
        "--xla_cpu_use_fusion_emitters=false",  # they compile for four times as long
        "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # nobody reads where each operation came from
# Workers share the cores: NumPy's threads wait for each other, and that is processor time too.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Traces are many small objects that live long: to go through all of them seldom is enough.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of optional test data: skipped where unset, a failure where set but wrong."""
    folder = os.environ.get("VGG_JAX_SHARED_DATA")
    if not folder:
        pytest.skip("needs VGG_JAX_SHARED_DATA")
    path = Path(folder).resolve()
    assert (path / "photos.csv").is_file(), f"VGG_JAX_SHARED_DATA={folder} has no photos.csv"
    return path
