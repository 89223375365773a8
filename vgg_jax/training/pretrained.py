"""The weights file that a run starts from: whether the network fits it, and what is taken."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.training.param_filters import first_match
from vgg_jax.training.state import TrainState
from vgg_jax.weights.loading import describe_weights, load_weights
from vgg_jax.weights.store import Weights, flat_tensors, nested_variables, network_tensors

# What a tensor's shape does not tell of the convolutional part.
_NETWORK_FIELDS = ("norm", "activation", "pooling", "residual")
_CLASSIFIER = "fc8/kernel"


def check_pretrained(config: ConfigDict, model: VGG) -> None:
    """Checks that a run can start from `config.init.weights`; reads no tensors.

    Raises:
      UserError: the file cannot be read, was made for another network or fed with other inputs,
        lacks a tensor of the right shape, or `init.fresh` is wrong.
    """
    if config.init.weights is None:
        if config.init.fresh:
            raise UserError(
                "init.fresh needs the weights to start from: --config.init.weights=FILE"
            )
        return
    if config.model.kernel_init == "lsuv":
        raise UserError(
            "model.kernel_init=lsuv rescales every layer, those of init.weights too: "
            "give another one for the new layers, such as paper"
        )
    weights = describe_weights(config.init.weights)
    _check_network(weights, config, model)
    _check_inputs(weights.preprocessing, config)
    found, taken = flat_tensors(weights.variables), taken_tensors(config, model)
    for name, shape in network_tensors(model).items():
        if name in taken and (name not in found or found[name].shape != shape):
            there = f"of shape {found[name].shape}" if name in found else "absent"
            raise UserError(
                f"{name} is {there} in {config.init.weights}, and {shape} here. Make the layer "
                f"new, --config.init.fresh=\"('{name.split('/')[0]}/.*', ...)\",\nor give the head "
                f"and the image size of the file: {weights.model.head}, "
                f"{weights.preprocessing.crop}"
            )


def taken_tensors(config: ConfigDict, model: VGG) -> set[str]:
    """Returns the names of the tensors that a run takes from its weights file.

    Raises:
      UserError: a pattern of `init.fresh` matches nothing.
    """
    found = first_match(network_tensors(model), config.init.fresh, "init.fresh")
    return {name for name, place in found.items() if place is None}


def describe_start(config: ConfigDict, model: VGG) -> str:
    """Returns, in words, what a run starts from and which of its tensors are new."""
    new = sorted(network_tensors(model).keys() - taken_tensors(config, model))
    return f"starting from {config.init.weights}; new: {', '.join(new) or 'nothing'}"


def with_pretrained(state: TrainState, config: ConfigDict, model: VGG) -> TrainState:
    """Returns the state with tensors of `config.init.weights` in place of drawn ones.

    A new classifier starts at zero: with features as large as those of trained layers, drawn
    weights would make large random logits that have to be unlearned first.
    """
    pretrained = flat_tensors(load_weights(config.init.weights).variables)
    drawn = {"params": state.params, "batch_stats": state.batch_stats}
    tensors, taken = flat_tensors(drawn), taken_tensors(config, model)
    tensors |= {name: _placed_like(tensors[name], np.asarray(pretrained[name])) for name in taken}
    if _CLASSIFIER not in taken:
        zeros = np.zeros(tensors[_CLASSIFIER].shape, tensors[_CLASSIFIER].dtype)
        tensors[_CLASSIFIER] = _placed_like(tensors[_CLASSIFIER], zeros)
    average = state.ema
    variables = nested_variables(tensors)
    if average is not None:  # of buffers of its own: a step consumes its state
        average = jax.tree.map(jax.numpy.copy, variables["params"])
    return state.replace(**variables, ema=average)


def _placed_like(leaf: jax.Array, value: np.ndarray) -> jax.Array:
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: value[index])


def _check_network(weights: Weights, config: ConfigDict, model: VGG) -> None:
    theirs = weights.model
    fields: Iterable[tuple[str, Any, Any]] = [
        (field, getattr(theirs, field), getattr(model, field)) for field in _NETWORK_FIELDS
    ]
    if model.norm == "batch":
        fields = [*fields, ("norm_epsilon", theirs.norm_epsilon, model.norm_epsilon)]
    if theirs.conv_stages != model.conv_stages:
        # Beside each other even where both have the same variant and one has stages of its own.
        name = "variant" if theirs.stages is None and model.stages is None else "stages"
        fields = [(name, getattr(theirs, name), getattr(model, name)), *fields]
    for field, there, here in fields:
        if there != here:
            raise UserError(
                f"{config.init.weights} has model.{field}={there}, this run {here}: "
                f"give --config.model.{field}={there}, or other weights"
            )


def _check_inputs(theirs: Preprocessing, config: ConfigDict) -> None:
    wanted = input_settings(theirs)
    for key, value in wanted.items():
        here = config.data[key]
        same = here == value if isinstance(value, str) else np.allclose(here, value, rtol=1e-4)
        if not same:
            raise UserError(
                f"{config.init.weights} wants data.{key}={value}, and this run feeds {here}:\n"
                f"--config=configs/finetune.py:{config.init.weights} does as the file wants"
            )


def input_settings(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns the keys of `config.data` that normalise images as a weights file wants them.

    The config has no scale: it is worked into mean and standard deviation.
    """
    scale = preprocessing.scale
    return {
        "channel_order": preprocessing.channel_order,
        "mean": tuple(value / scale for value in preprocessing.mean),
        "std": tuple(value / scale for value in preprocessing.std),
    }
