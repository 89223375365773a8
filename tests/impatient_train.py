"""`python -m vgg_jax.train` to which a process is lost after 15 silent seconds, not after 60."""

from vgg_jax import distributed, train
from vgg_jax.cli import run_command

SECONDS = 15

if __name__ == "__main__":
    distributed.HEARTBEAT_SECONDS = SECONDS
    run_command(train.main)
