"""Plain and residual nets of the same blocks, so that depth and the shortcut are all that differs.

    stem      two 3x3 convolutions; large images are halved after each of them
    blocks    norm, ReLU, 3x3 convolution, twice; with or without a shortcut around the two
    head      norm, ReLU, one linear layer over all positions, as in VGG

All blocks have equal shape and run in one `scan`, so that compiling takes as long for 101 layers
as for 11. The activation comes before each convolution (He et al. 2016b, arXiv 1603.05027).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.models.initializers import get_initializer
from vgg_jax.ops.conv import patches
from vgg_jax.ops.pool import max_pool
from vgg_jax.xla import DRAWING, on_cpu

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, batch norm": {"norm": "batch"},
    "residual": {"residual": True},
    "residual, Fixup": {"residual": True, "fixup": True},
    "residual, batch norm": {"norm": "batch", "residual": True},
}
CONVOLUTIONS = 2  # of a block
AROUND = 3  # layers outside of the blocks: two of the stem, one of the head
EPSILON = 1e-5

Params = dict[str, Any]  # {"first", "second", "blocks", "head"}: {"kernel", "bias", ...}
Statistics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Net:
    """A net of the family.

    Attributes:
      layers: with weights, odd, as a block has two.
      channels: of every convolution.
      side: of the images.
      colours: channels of the images.
      halve: whether the stem halves the map after each of its convolutions.
      norm: "none" or "batch".
      residual: whether there is a shortcut around each block.
      fixup: whether the branches start as Zhang et al. (2019), arXiv 1901.09321, start them: the
        first convolution times blocks^(-1/2), which is L^(-1/(2m-2)) with m = 2 convolutions to a
        branch, and the last one zero. Their scalar biases and multipliers are left out (every
        convolution has a bias here), and the classifier is not zero, so that gradients exist.
      periodic: whether maps continue on the other side; else with zeros.
    """

    layers: int
    channels: int
    side: int = 8
    colours: int = 1
    halve: bool = False
    norm: str = "none"
    residual: bool = False
    fixup: bool = False
    periodic: bool = False

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return (self.layers - AROUND) // CONVOLUTIONS

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the maps in the blocks."""
        side = self.side // 4 if self.halve else self.side
        return side, side, self.channels


def draw(net: Net, key: jax.Array) -> Params:
    """Returns parameters: He's initialisation, fan-in, and biases of zero."""
    he = get_initializer("he_fan_in")
    keys = jax.random.split(key, 4)
    width, many = net.channels, net.blocks * CONVOLUTIONS

    def convolution(key: jax.Array, channels: int) -> jax.Array:
        return he(key, (3, 3, channels, width), jnp.float32)

    stacked = jax.vmap(lambda key: convolution(key, width))(jax.random.split(keys[2], many))
    stacked = stacked.reshape(net.blocks, CONVOLUTIONS, *stacked.shape[1:])
    if net.fixup:
        stacked = stacked * jnp.array([net.blocks**-0.5, 0]).reshape(-1, 1, 1, 1, 1)
    kernels = {
        "first": convolution(keys[0], net.colours),
        "second": convolution(keys[1], width),
        "blocks": stacked,
        "head": he(keys[3], (math.prod(net.map_shape), 10), jnp.float32),
    }
    params: Params = {}
    for name, kernel in kernels.items():
        many_of = kernel.shape[:2] if name == "blocks" else ()
        params[name] = {"kernel": kernel, "bias": jnp.zeros((*many_of, kernel.shape[-1]))}
        if net.norm == "batch" and name != "first":  # of what the layer sees
            params[name] |= {
                "scale": jnp.ones((*many_of, width)),
                "shift": jnp.zeros((*many_of, width)),
            }
    return params


@functools.lru_cache(maxsize=2)
def drawing(net: Net) -> Callable[[jax.Array], Params]:
    """Returns the compiled `draw` for keys (runs,): parameters with a leading axis over them."""
    return jax.jit(jax.vmap(functools.partial(draw, net)), compiler_options=on_cpu(DRAWING))


def forward(
    net: Net,
    params: Params,
    images: jax.Array,
    *,
    statistics: Statistics | None = None,
    kept: jax.Array | None = None,
    nudges: jax.Array | None = None,
) -> tuple[jax.Array, Statistics]:
    """Classifies images (N, H, W, colours).

    Args:
      net: the net.
      params: its parameters.
      images: normalised.
      statistics: of batch norm, as returned; None for those of this batch.
      kept: bool (blocks, 2), False for a convolution that is taken out with its norm and ReLU, so
        that it hands on what it gets. With both of a block a residual net has the shortcut alone.
      nudges: added to what enters the first block and to what leaves each of them, (blocks + 1, N,
        h, w, channels): the gradient with respect to zeros is that with respect to these maps.

    Returns:
      Logits (N, 10), and the statistics that batch norm used.
    """

    def activated(
        x: jax.Array, layer: Params, moments: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        if net.norm == "none":
            return jax.nn.relu(x), jnp.zeros((2, net.channels))
        if moments is None:
            moments = jnp.stack([x.mean((0, 1, 2)), x.var((0, 1, 2))])
        scale = jax.lax.rsqrt(moments[1] + EPSILON) * layer["scale"]
        return jax.nn.relu((x - moments[0]) * scale + layer["shift"]), moments

    def block(x: jax.Array, given: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        layers, moments, keep, nudge = given
        out, found = x, []
        for i in range(CONVOLUTIONS):
            layer = {name: values[i] for name, values in layers.items()}
            seen, used = activated(out, layer, None if moments is None else moments[i])
            convolved = convolve(seen, layer)
            out = convolved if keep is None else jnp.where(keep[i], convolved, out)
            found.append(used)
        if net.residual:
            out = x + (out if keep is None else jnp.where(keep.any(), out, 0))
        return out if nudge is None else out + nudge, jnp.stack(found)

    def convolve(x: jax.Array, layer: Params) -> jax.Array:
        if net.periodic:
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
        convolved = patches(x, layer["kernel"])
        return (convolved[:, 1:-1, 1:-1] if net.periodic else convolved) + layer["bias"]

    def halved(x: jax.Array) -> jax.Array:
        return max_pool(x) if net.halve else x

    given = statistics or dict.fromkeys(("second", "blocks", "head"))
    x = halved(convolve(images, params["first"]))
    seen, second = activated(x, params["second"], given["second"])
    x = halved(convolve(seen, params["second"]))
    if nudges is not None:
        x = x + nudges[0]
    # Recomputed in the backward pass: the maps of all blocks and runs would leave the caches.
    step = jax.checkpoint(block, prevent_cse=False)
    behind = None if nudges is None else nudges[1:]
    x, used = jax.lax.scan(step, x, (params["blocks"], given["blocks"], kept, behind))
    seen, head = activated(x, params["head"], given["head"])
    logits = seen.reshape(len(seen), -1) @ params["head"]["kernel"] + params["head"]["bias"]
    return logits, {"second": second, "blocks": used, "head": head}


def kernel_norms(tree: Params) -> Params:
    """Returns the L2 norm of every layer's kernel: scalars, and (blocks, 2) for "blocks"."""
    return {
        name: jnp.sqrt(
            jnp.sum(
                jnp.square(layer["kernel"]),
                tuple(range(2 if name == "blocks" else 0, layer["kernel"].ndim)),
            )
        )
        for name, layer in tree.items()
    }


def scaled(tree: Params, factors: Params) -> Params:
    """Multiplies all that belongs to a layer by its factor, of the shape of `kernel_norms`."""

    def times(values: jax.Array, factor: jax.Array) -> jax.Array:
        return values * factor.reshape(factor.shape + (1,) * (values.ndim - factor.ndim))

    return {
        name: {part: times(values, factors[name]) for part, values in layer.items()}
        for name, layer in tree.items()
    }
