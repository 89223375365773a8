"""Paints a photo in the style of a painting (Gatys, Ecker & Bethge 2016).

    python -m experiments.style_transfer.run --weights=vgg19.safetensors --content=PHOTO
        --style=PAINTING [--optimizer=lbfgs|adam] [--pooling=max|average] [--normalize=DIR]
        [--size=256] [--iterations=200] [--every=50] [--content_weight=1] [--variation_weight=0]
        [--color=painting|matched|photo] [--out=DIR]

Writes picture.jpg, steps.jpg (photo, painting, then the picture after every 50 iterations) and
record.json with all losses. --normalize first rescales the filters to a mean activation of 1 over
the JPEGs of a folder, as the paper does. --color keeps the photo's colours: "matched" paints with
the painting in the photo's mean colour and covariance, "photo" transfers the luminance alone.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from vgg_jax.cli import CommandParser, run_command, show_progress
from vgg_jax.data.preprocessing import decode_image, resize_shortest
from vgg_jax.errors import UserError
from vgg_jax.features.color import luminance, match_colors, match_luminance, with_chrominance
from vgg_jax.features.normalization import normalize_weights
from vgg_jax.features.style import minimize, transfer_objective
from vgg_jax.runs.record import Record
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights
from vgg_jax.xla import enable_compilation_cache

MODULE = "experiments.style_transfer.run"
COLORS = ("painting", "matched", "photo")


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser(MODULE, __doc__)
    parser.add_argument("--weights", type=Path, required=True, help="VGG-19's weights file")
    parser.add_argument("--content", type=Path, required=True, help="the photo")
    parser.add_argument("--style", type=Path, required=True, help="the painting")
    parser.add_argument("--size", type=int, default=256, help="pixels of the shortest side; 256")
    parser.add_argument("--optimizer", default="lbfgs", help="lbfgs or adam; lbfgs")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--every", type=int, default=50, help="iterations between pictures; 50")
    parser.add_argument("--content_weight", type=float, default=1.0, help="1; the style's is 1000")
    parser.add_argument("--variation_weight", type=float, default=0.0, help="of smoothness; 0")
    parser.add_argument("--color", choices=COLORS, default="painting", help="whose; the painting's")
    parser.add_argument("--pooling", choices=("max", "average"), default="max")
    parser.add_argument("--normalize", type=Path, metavar="DIR", help="JPEGs in DIR and below")
    parser.add_argument("--out", type=Path, default=Path("runs/style_transfer"))
    args = parser.parse_args(argv)
    if min(args.size, args.iterations, args.every) < 1:
        raise UserError("--size, --iterations and --every must be at least 1")

    enable_compilation_cache()
    content, style = (
        resize_shortest(decode_image(path), args.size) for path in (args.content, args.style)
    )
    args.out.mkdir(parents=True, exist_ok=True)
    record = Record(args.out, MODULE, argv)
    weights = prepare_weights(args.weights, args.pooling, args.normalize)
    started = time.perf_counter()
    photo = content
    content, style, finish = prepare_colors(photo, style, args.color)
    objective = transfer_objective(
        weights,
        content,
        style,
        content_weight=args.content_weight,
        variation_weight=args.variation_weight,
    )
    evaluated: list[float] = []

    def counted(picture: jax.Array) -> tuple[jax.Array, jax.Array]:
        loss, gradient = objective(picture)
        evaluated.append(float(loss))
        return loss, gradient

    iterations = minimize(counted, content, optimizer=args.optimizer)
    losses: list[float] = []
    picture, shown = photo, [photo, at_height(pixels(style), len(photo))]

    def write_results() -> None:
        save(args.out / "picture.jpg", picture)
        save(args.out / "steps.jpg", np.concatenate(shown, axis=1))
        record.write(height_width=photo.shape[:2], losses=losses, evaluated=evaluated)

    for _, progress in zip(
        show_progress(range(args.iterations), "iteration"), iterations, strict=False
    ):
        losses.append(progress.loss)
        picture = pixels(finish(progress.picture))
        if progress.iteration % args.every == 0:
            shown.append(picture)
            write_results()
            seconds = time.perf_counter() - started
            print(f"{progress.iteration:>5}  loss {progress.loss:.5g}  {seconds:.0f} s", flush=True)
    write_results()
    return 0


def prepare_weights(path: Path, pooling: str, photos: Path | None) -> Weights:
    """Loads weights, sets the pooling, and rescales them on photos if a folder is given."""
    weights = load_weights(path)
    weights = dataclasses.replace(weights, model=weights.model.clone(pooling=pooling))
    if photos is None:
        return weights
    files = sorted(photos.rglob("*.jpg"))
    if not files:
        raise UserError(f"no *.jpg in {photos} or below: give a folder of photos")
    return normalize_weights(weights, files)


def prepare_colors(
    photo: np.ndarray, painting: np.ndarray, color: str
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Returns photo and painting as they are to be compared, and what finishes the picture.

    Args:
      photo: uint8 (H, W, 3) RGB.
      painting: uint8 (h, w, 3) RGB.
      color: of `COLORS`.
    """
    if color == "painting":
        return photo, painting, np.asarray
    if color == "matched":
        return photo, np.clip(match_colors(painting, photo), 0, 255), np.asarray
    grey = luminance(photo)
    matched = np.clip(match_luminance(luminance(painting), grey), 0, 255)
    return grey, matched, lambda picture: with_chrominance(picture, photo)


def pixels(picture: np.ndarray) -> np.ndarray:
    """Rounds and clips to uint8."""
    return np.round(np.clip(picture, 0, 255)).astype(np.uint8)


def at_height(picture: np.ndarray, height: int) -> np.ndarray:
    """Resizes isotropically to a height in pixels."""
    image = Image.fromarray(picture)
    return np.asarray(image.resize((round(image.width * height / image.height), height)))


def save(path: Path, picture: np.ndarray) -> None:
    """Writes a JPEG."""
    Image.fromarray(picture).save(path, quality=75)


if __name__ == "__main__":
    run_command(main)
