"""Compiled programs kept between runs, so that a second start need not compile again."""

import os
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another one.

    Set JAX_COMPILATION_CACHE_DIR to move it, JAX_ENABLE_COMPILATION_CACHE=false to do without.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "vgg_jax" / "xla"))
