"""XLA: compiler options for a CPU, determinism on a GPU, the cache of compiled programs."""

import os
import warnings
from pathlib import Path

import jax

Options = dict[str, str | int]

# For programs that run a network. By default XLA starts on a CPU what it can start, so that
# operations may run side by side. Each of a network's keeps all cores busy by itself, and what is
# computed long before its use leaves the caches and fills memory (docs/performance.md).
NETWORK: Options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}

# For drawing parameters, which happens once: compiled in a third of the time.
DRAWING: Options = {"xla_backend_optimization_level": 1}

_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def on_cpu(options: Options, platform: str | None = None) -> Options | None:
    """Returns the options if the program is for a CPU, else None: `jax.jit(compiler_options=)`.

    Args:
      options: of this module.
      platform: of the devices that it is compiled for; None for the default backend's.
    """
    return options if (platform or jax.default_backend()) == "cpu" else None


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX has another one.

    Set JAX_COMPILATION_CACHE_DIR to move it, JAX_ENABLE_COMPILATION_CACHE=false to turn it off.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "vgg_jax" / "xla"))
    # Another process may be writing the entry, or was killed while it did: the program is compiled.
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")


def make_deterministic() -> None:
    """Makes a GPU compute the same bits in every run; before JAX first uses it.

    XLA then leaves out operations that add in any order, and takes no choice by timing. A CPU does
    neither by itself.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if _DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, _DETERMINISTIC])
