"""VGG-13, net B of the paper.

python -m vgg_jax.train --config=configs/vgg13.py
"""

import functools

from vgg_jax.configs.base import vgg

get_config = functools.partial(vgg, "B")
