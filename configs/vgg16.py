"""VGG-16, net D of the paper.

python -m vgg_jax.train --config=configs/vgg16.py
"""

import functools

from vgg_jax.configs.base import vgg

get_config = functools.partial(vgg, "D")
