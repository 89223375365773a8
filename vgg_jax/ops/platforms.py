"""Which form of an operation a program has: that of the platform it is traced on, or of each."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

# A context that JAX's caches of traced functions know of.
_every = jax.make_user_context(False)


def every_platform() -> Any:
    """Returns a context in which programs are traced for all platforms.

    To export a program, or to compile it for devices that are not here. It takes longer: every form
    of every operation is traced and differentiated.
    """
    return _every(True)


def per_platform(*operands: Any, default: Callable[..., Any], **forms: Callable[..., Any]) -> Any:
    """Applies the form for the default backend's platform, or, in `every_platform`, all of them.

    Args:
      *operands: what every form takes.
      default: the form for platforms that are not named.
      **forms: those for "cpu" and "tpu".
    """
    if _every.value:
        return lax.platform_dependent(*operands, default=default, **forms)
    return forms.get(jax.default_backend(), default)(*operands)
