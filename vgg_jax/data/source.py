"""What a source of labelled images is."""

import abc
from typing import Any

import numpy as np
from PIL import Image


class Source(abc.ABC):
    """Labelled images by index.

    Attributes:
      class_names: the name of each class.
      labels: int32 (N,) if they are known without reading every example, else None.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray | None

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples N."""

    @abc.abstractmethod
    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        """Returns an RGB image and its label.

        Args:
          index: of the example, in [0, N).
          min_side: see `preprocessing.open_image`.

        Raises:
          UserError: the example cannot be decoded.
        """

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns {"image": uint8 (H, W, 3) RGB, "label": int}."""
        image, label = self.load(index)
        return {"image": np.array(image), "label": label}
