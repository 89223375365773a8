"""Starts `python -m vgg_jax.predict`, whose code is in `vgg_jax.features.predict_command`.

Nothing imports this module: it would hide the function `vgg_jax.predict`.
"""

from vgg_jax.cli import run_command
from vgg_jax.features.predict_command import main

if __name__ == "__main__":
    run_command(main)
