"""The VGG family of Simonyan & Zisserman (2014) in JAX and Flax.

    from vgg_jax import create_model, fit, list_models, vgg16_bn
    from vgg_jax import explain, extract_features, load_weights, predict, save_weights

Everything else is in the submodules. Nothing is loaded before it is used.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from vgg_jax.errors import missing_extra

if TYPE_CHECKING:
    from vgg_jax.evaluation.prediction import predict
    from vgg_jax.features.explanation import explain
    from vgg_jax.features.extractor import extract_features
    from vgg_jax.models.variants import list_models
    from vgg_jax.training.fitting import fit
    from vgg_jax.weights.creating import (
        create_model,
        vgg11,
        vgg11_bn,
        vgg13,
        vgg13_bn,
        vgg16,
        vgg16_bn,
        vgg19,
        vgg19_bn,
    )
    from vgg_jax.weights.loading import load_weights
    from vgg_jax.weights.publishing import push_to_hub
    from vgg_jax.weights.store import save_weights

__version__ = "0.1.0"
__all__ = [
    "create_model",
    "explain",
    "extract_features",
    "fit",
    "list_models",
    "load_weights",
    "predict",
    "push_to_hub",
    "save_weights",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]

_HOMES = {
    "vgg_jax.evaluation.prediction": ("predict",),
    "vgg_jax.features.explanation": ("explain",),
    "vgg_jax.features.extractor": ("extract_features",),
    "vgg_jax.models.variants": ("list_models",),
    "vgg_jax.training.fitting": ("fit",),
    "vgg_jax.weights.creating": (
        *("create_model", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn"),
        *("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    ),
    "vgg_jax.weights.loading": ("load_weights",),
    "vgg_jax.weights.publishing": ("push_to_hub",),
    "vgg_jax.weights.store": ("save_weights",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(home), name)
            except ModuleNotFoundError as error:
                if (hint := missing_extra(error)) is None:
                    raise
                raise ImportError(f"vgg_jax.{name}: {hint}") from None
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])  # Python names the nearest


def __dir__() -> list[str]:
    """Returns what a notebook completes and an AttributeError suggests."""
    return sorted({*globals(), *__all__})
