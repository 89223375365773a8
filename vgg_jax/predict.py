"""Starts `python -m vgg_jax.predict`, whose code is in `vgg_jax.predict_main`.

Nothing imports this module: it would hide the function `vgg_jax.predict`.
"""

from vgg_jax.cli import run_command
from vgg_jax.predict_main import main

if __name__ == "__main__":
    run_command(main)
