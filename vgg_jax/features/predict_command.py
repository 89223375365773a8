"""Predicts the most probable classes of images.

    python -m vgg_jax.predict --weights=vgg16.safetensors cat.jpg dog.png
    python -m vgg_jax.predict --weights=vgg16.safetensors --top=3 --json *.jpg
    python -m vgg_jax.predict --weights=vgg16.safetensors --explain --methods=guided cat.jpg
    python -m vgg_jax.predict --weights=vgg16.safetensors --explain cat.jpg

Images may have any common format. If one cannot be read, the command names it on stderr, predicts
the others, and exits with status 2. --json prints one object per line, {"image", "predictions":
[{"class", "name", "probability"}]}. --explain also writes cat.jpg.explained.png beside the photo
(in JSON: "explanation"): the photo, the saliency of its pixels for the most probable class, and
Grad-CAM, or the maps that --methods names: saliency, guided (backpropagation), grad_cam, occlusion.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_jax.cli import CommandParser, quick_imports
from vgg_jax.errors import EXIT_USER_ERROR, UserError

if TYPE_CHECKING:
    import numpy as np

    from vgg_jax.evaluation.prediction import Prediction
    from vgg_jax.weights.store import Weights


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.predict", __doc__)
    parser.add_argument("--weights", required=True, help="weights file or hf://owner/name")
    parser.add_argument("--top", type=int, default=5, help="number of classes to print; default 5")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--explain", action="store_true", help="write IMAGE.explained.png too")
    parser.add_argument("--methods", help="of --explain, by commas; default saliency,grad_cam")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    args = parser.parse_args(argv)
    if args.methods is not None and not args.explain:
        raise UserError(f"--methods={args.methods} draws nothing without --explain")

    # Imported late: --help answers at once.
    with quick_imports():
        from vgg_jax.weights.loading import load_weights
        from vgg_jax.xla import enable_compilation_cache

    enable_compilation_cache()
    weights = load_weights(args.weights)
    methods = args.methods.split(",") if args.methods is not None else None
    status = 0
    for image, found in _classified(weights, args.images, args.top):
        if isinstance(found, UserError):
            print(f"error: {found}", file=sys.stderr)
            status = EXIT_USER_ERROR
            continue
        written = (
            {"explanation": _write_explanation(weights, image, methods)} if args.explain else {}
        )
        if args.json:
            predictions = [_as_json(prediction) for prediction in found]
            print(json.dumps({"image": image, "predictions": predictions} | written))
            continue
        print(image)
        for prediction in found:
            print(f"  {prediction.probability:>7.2%}  {prediction.name}")
        for path in written.values():
            print(f"  explained in {path}")
    return status


def _write_explanation(weights: "Weights", image: str, methods: Sequence[str] | None) -> str:
    """Writes IMAGE.explained.png and returns its path."""
    from vgg_jax.features.explanation import DEFAULT, explain

    path = f"{image}.explained.png"
    try:
        explain(weights, image, methods=methods or DEFAULT).picture().save(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; copy the photo to a folder of your own"
        ) from error
    return path


def _classified(
    weights: "Weights", images: Sequence[str], top: int
) -> Iterator[tuple[str, "list[Prediction] | UserError"]]:
    """Yields every image with its classes, or with why it cannot be read, in order."""
    from vgg_jax.evaluation.prediction import BATCH, predict_pixels

    for start in range(0, len(images), BATCH):
        readable: list[tuple[str, np.ndarray]] = []
        found: dict[str, list[Prediction] | UserError] = {}
        for image in images[start : start + BATCH]:
            try:
                readable.append((image, weights.preprocessing.load(Path(image))))
            except UserError as error:
                found[image] = error
        if readable:
            predictions = predict_pixels(weights, [pixels for _, pixels in readable], top=top)
            for (image, _), prediction in zip(readable, predictions, strict=True):
                found[image] = prediction
        for image in images[start : start + BATCH]:
            yield image, found[image]


def _as_json(prediction: "Prediction") -> dict[str, Any]:
    label, name, probability = prediction
    return {"class": label, "name": name, "probability": probability}
