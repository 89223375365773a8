"""The VGG family of Simonyan & Zisserman (2014) in JAX and Flax.

    from vgg_jax import explain, extract_features, load_weights, predict

Everything else is in the submodules. Nothing is loaded before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vgg_jax.evaluation.prediction import predict
    from vgg_jax.features.explanation import explain
    from vgg_jax.features.extractor import extract_features
    from vgg_jax.weights.store import load_weights

__version__ = "0.1.0"
__all__ = ["explain", "extract_features", "load_weights", "predict"]

_HOMES = {
    "explain": "vgg_jax.features.explanation",
    "extract_features": "vgg_jax.features.extractor",
    "load_weights": "vgg_jax.weights.store",
    "predict": "vgg_jax.evaluation.prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
