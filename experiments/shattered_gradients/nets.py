"""The networks: a stack of dense layers, and VGG; their statistics frozen at a reference batch."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from experiments.shattered_gradients.cells import DENSE, KINDS, Cell
from vgg_jax.models import VGG
from vgg_jax.models.initializers import get_initializer

INPUT = 512  # elements of an input of a dense network
LOGITS = 16  # of VGG: rows of the Jacobian
Forward = Callable[..., jax.Array]


class Stack(nn.Module):
    """Dense ReLU layers without biases, plain or as Balduzzi et al. (2017) build residual ones.

    z_0 is a linear image of the input, then z_l = W relu(z_{l-1}), with batch norm of what ReLU
    gets, or with a shortcut z_l = z_{l-1} + beta W relu(z_{l-1}).

    Attributes:
      width: units of a layer.
      depth: gates.
      norm: "none" or "batch".
      residual: whether there are shortcuts.
      beta: factor of the branch beside a shortcut.
    """

    width: int
    depth: int
    norm: str = "none"
    residual: bool = False
    beta: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> list[jax.Array]:
        """Maps inputs (N, features) to z_1, ..., z_depth, each (N, width).

        Args:
          x: of mean square 1.
          train: statistics of this batch, which replace the running ones.
        """
        z = nn.Dense(self.width, use_bias=False, kernel_init=get_initializer("lecun"))(x)
        found = []
        for _ in range(self.depth):
            seen = z
            if self.norm == "batch":
                seen = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.0,
                    epsilon=1e-5,
                    use_bias=False,
                    use_scale=False,
                )(z)
            he = get_initializer("he_fan_in")
            branch = nn.Dense(self.width, use_bias=False, kernel_init=he)(nn.relu(seen))
            z = z + self.beta * branch if self.residual else branch
            found.append(z)
        return found


def network(cell: Cell, depth: int) -> nn.Module:
    """Returns the network of a cell; `depth` is that of a dense one."""
    if cell.net == DENSE:
        return Stack(int(cell.width), depth, beta=float(cell.beta), **KINDS[cell.kind])
    return VGG(
        variant=cell.net,
        num_classes=LOGITS,
        head="linear",
        head_window=1,
        pooling=cell.pooling,
        width=float(cell.width),
        norm_momentum=0.0,  # the statistics of one batch
        **KINDS[cell.kind],
    )


def input_shape(cell: Cell) -> tuple[int, ...]:
    """Returns the shape of one input."""
    return (INPUT,) if cell.net == DENSE else (int(cell.pixels), int(cell.pixels), 3)


def gates(cell: Cell) -> int:
    """Returns the number of ReLUs of a cell's VGG."""
    return sum(map(len, network(cell, 0).conv_stages))


def frozen(model: nn.Module, key: jax.Array, reference: jax.Array) -> Mapping[str, Any]:
    """Draws parameters, and takes the statistics of batch norm from a reference batch."""
    variables = model.init(key, reference[:1])
    _, updates = model.apply(variables, reference, train=True, mutable=["batch_stats"])
    return variables | updates
