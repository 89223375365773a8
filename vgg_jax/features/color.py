"""Style transfer that keeps the colours of the photo.

Gatys, Bethge, Hertzmann & Shechtman (2016), "Preserving Color in Neural Artistic Style Transfer",
arXiv 1606.05897: `match_colors` is their section 3, the painting in the colours of the photo;
`luminance`, `match_luminance` and `with_chrominance` are their section 4, transfer of brightness
alone.
"""

import numpy as np

# Luminance Y and chrominance I and Q of RGB, as NTSC television has them.
YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


def match_colors(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Maps the painting's colours linearly, so that they have the photo's mean and covariance.

    Args:
      style: (h, w, 3) RGB of 0..255.
      content: (H, W, 3) RGB of 0..255.

    Returns:
      float32 (h, w, 3); values may leave 0..255. Colours that the painting does not vary in, such
      as all but grey in a grey one, stay without variation.
    """
    pixels, wanted = (np.asarray(each, np.float64).reshape(-1, 3) for each in (style, content))
    forward = _root(np.cov(wanted.T), 0.5) @ _root(np.cov(pixels.T), -0.5)
    moved = (pixels - pixels.mean(0)) @ forward.T + wanted.mean(0)
    return moved.reshape(style.shape).astype(np.float32)


def luminance(picture: np.ndarray) -> np.ndarray:
    """Maps RGB of 0..255, (H, W, 3), to grey of the same luminance: float32 (H, W, 3)."""
    return np.repeat((picture @ YIQ[0])[..., None], 3, axis=2).astype(np.float32)


def match_luminance(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Shifts and scales values, so that they have the mean and the deviation of others.

    Args:
      style: from `luminance`.
      content: from `luminance`.

    Returns:
      float32, of the shape of `style`.
    """
    scale = content.std() / max(float(style.std()), 1e-6)
    return ((style - style.mean()) * scale + content.mean()).astype(np.float32)


def with_chrominance(picture: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Returns the luminance of one picture with the chrominance of another, float32 (H, W, 3).

    Args:
      picture: (H, W, 3) RGB of 0..255.
      content: of the same shape.
    """
    mixed = np.concatenate([picture @ YIQ[:1].T, content @ YIQ[1:].T], axis=2)
    return (mixed @ np.linalg.inv(YIQ).T).astype(np.float32)


def _root(matrix: np.ndarray, power: float) -> np.ndarray:
    """Returns a power of a symmetric positive matrix; directions without variation give 0."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-9 * values.max()
    powers = np.where(kept, np.where(kept, values, 1) ** power, 0)
    return (vectors * powers) @ vectors.T
