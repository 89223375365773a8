"""VGG-11, net A of the paper.

python -m vgg_jax.train --config=configs/vgg11.py
"""

import functools

from vgg_jax.configs.base import vgg

get_config = functools.partial(vgg, "A")
