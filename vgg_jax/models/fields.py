"""What the fields of `VGG` may hold, and what the names among them stand for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vgg_jax.errors import UserError
from vgg_jax.models.domains import Domain, Each, Flag, Number, OneOf, Parsed, Text, Unset, Whole
from vgg_jax.models.initializers import get_initializer
from vgg_jax.models.variants import parse_stage, resolve_stages
from vgg_jax.ops.pool import avg_pool, max_pool, subsample


@dataclasses.dataclass(frozen=True)
class Head:
    """A classifier: default hidden sizes, and whether dropout comes before or after them."""

    hidden: tuple[int, ...]
    dropout_before: bool


HEADS = {
    # Dropout on the output of the first two fully connected layers: the paper, section 3.1.
    "imagenet": Head((4096, 4096), dropout_before=False),
    # Dropout-512-ReLU-Dropout-512-ReLU-classes: chengyangfu/pytorch-vgg-cifar10.
    "cifar": Head((512, 512), dropout_before=True),
    # No hidden layer, so no dropout either.
    "linear": Head((), dropout_before=False),
}
NORMS = ("none", "batch")
MATMUL_PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "linear": lambda x: x,
}
POOLINGS = {"max": max_pool, "average": avg_pool, "none": subsample}

FIELDS: dict[str, Domain] = {
    "variant": Text(),  # any name, if there are stages
    "stages": Unset(Each(Parsed(parse_stage), shortest=1)),
    "num_classes": Whole(1),
    "norm": OneOf(NORMS),
    "norm_momentum": Number(0, 1),
    "norm_epsilon": Number(0),
    "norm_group": Unset(Whole(1)),
    "head": OneOf(HEADS),
    "head_features": Unset(Each(Whole(1), longest=2)),
    "head_window": Whole(1),
    "dropout": Number(0, 1, open_high=True),
    "kernel_init": Parsed(get_initializer),
    "activation": OneOf(ACTIVATIONS),
    "pooling": OneOf(POOLINGS),
    "width": Number(0, open_low=True),
    "residual": Flag(),
    "remat": Flag(),
    "matmul_precision": OneOf(MATMUL_PRECISIONS),
}


def check_fields(model: Any) -> None:
    """Raises UserError if a field of a `VGG` is outside its domain, or two contradict."""
    for field, domain in FIELDS.items():
        complaint = domain.complaint(getattr(model, field))
        if complaint is not None:
            raise UserError(f"model.{field}={getattr(model, field)!r}: {complaint}")
    if model.head_features and model.head == "linear":
        raise UserError("model.head_features are for heads 'imagenet' and 'cifar', not 'linear'")
    if model.guided and model.activation != "relu":
        raise UserError(f"guided gradients are those of ReLU, not of {model.activation}")
    stages = resolve_stages(model.variant, model.stages)
    if model.residual and any(len({conv.channels for conv in stage}) > 1 for stage in stages):
        raise UserError("model.residual wants one number of channels within each stage")
