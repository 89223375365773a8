"""VGG-19, net E of the paper.

python -m vgg_jax.train --config=configs/vgg19.py
"""

import functools

from vgg_jax.configs.base import vgg

get_config = functools.partial(vgg, "E")
