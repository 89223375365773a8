"""LPIPS beside PSNR and SSIM: photos with noise, blurred, compressed and moved.

    python -m experiments.perceptual_distance.run --weights=vgg16.safetensors --data_dir=DIR
        [--preset=quick|full] [--vgg19=vgg19.safetensors] [--out=DIR]
    python -m experiments.perceptual_distance.run --redraw [--preset=quick|full] [--out=DIR]

DIR holds photos.csv and photos/; the weights come from `convert --from=lpips`. With --vgg19 the
imported convolutions are compared with those of VGG-19 too. quick: 20 photos; full: 500. Needs
scikit-image (extra `metrics`). Writes distances.csv.gz, convolutions.csv, table.md, distances.png
and record.json. What is stored is not measured again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.perceptual_distance import figures
from experiments.perceptual_distance.convolutions import COLUMNS, compare
from experiments.perceptual_distance.distortions import STRENGTHS, distort, inner, patch
from experiments.photos_evaluation.run import open_photos
from vgg_jax.cli import run_command, show_progress
from vgg_jax.errors import UserError
from vgg_jax.features.extractor import compute_endpoints
from vgg_jax.features.perceptual import load_lpips, lpips_distance
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights
from vgg_jax.xla import enable_compilation_cache

# Photos whose distances are measured, and whose features are compared with VGG-19's.
PRESETS = {"quick": (20, 40), "full": (500, 300)}
SEEDS = (0, 1, 2)  # of the noise
BATCH_SIZE = 20


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--weights", type=Path, help="VGG-16's weights file")
    parser.add_argument("--vgg19", type=Path, help="VGG-19's weights file")
    parser.add_argument("--data_dir", type=Path, help="folder of photos.csv")
    args = parser.parse_args(argv)
    if not args.redraw:
        if args.weights is None or args.data_dir is None:
            raise UserError("give --weights=FILE and --data_dir=DIR to measure, or --redraw")
        if not (args.data_dir / "photos.csv").is_file():
            raise UserError(f"no photos.csv in {args.data_dir}: give the folder that holds it")
        weights = load_weights(args.weights)
        vgg19 = load_weights(args.vgg19) if args.vgg19 else None
        args.out.mkdir(parents=True, exist_ok=True)
        record = Record(args.out, parser.module, argv, ["scikit-image", "pillow", "scipy"])
        enable_compilation_cache()
        judged, compared = PRESETS[args.preset]
        measure(weights, args.data_dir, judged, args.out / figures.DISTANCES)
        path = args.out / figures.CONVOLUTIONS
        if vgg19 is not None and not path.exists():
            write_table(path, compare(weights, vgg19, args.data_dir, compared), COLUMNS)
        record.write()
    stored(args.out / figures.DISTANCES)
    figures.draw(args.out)
    return 0


def measure(weights: Weights, data_dir: Path, count: int, path: Path) -> None:
    """Adds the photos that the table at `path` lacks, and writes it after every batch."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = table_rows(read_table(path))
    done = len({row["photo"] for row in rows})
    photos = open_photos(data_dir, count)
    starts = range(done, len(photos), BATCH_SIZE)
    for start in show_progress(starts, "batch"):
        stop = min(start + BATCH_SIZE, len(photos))
        patches = np.stack([patch(photos[index]["image"]) for index in range(start, stop)])
        rows += distances(weights, patches, start)
        write_table(path, rows, figures.COLUMNS)


def distances(weights: Weights, patches: np.ndarray, first: int) -> Iterator[dict[str, Any]]:
    """Yields what each metric says of each distorted patch.

    Args:
      weights: of VGG-16.
      patches: uint8 (N, 96, 96, 3), from `patch`.
      first: number of the first of these photos.

    Raises:
      UserError: scikit-image is not installed.
    """
    try:
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    except ImportError as error:
        raise UserError(
            "PSNR and SSIM need scikit-image: pip install 'vgg_jax[metrics]'"
        ) from error
    clean = np.stack([inner(pixels) for pixels in patches])
    linear = load_lpips()
    named = {"model": weights.model, "preprocessing": weights.preprocessing}
    named |= {"endpoints": tuple(linear)}
    wanted = compute_endpoints(weights.variables, clean, **named)
    for distortion, strengths in STRENGTHS.items():
        seeds = SEEDS if distortion == "noise" else SEEDS[:1]
        for strength, seed in ((strength, seed) for strength in strengths for seed in seeds):
            spoiled = np.stack(
                [
                    distort(pixels, distortion, strength, (seed, photo))
                    for photo, pixels in enumerate(patches, first)
                ]
            )
            features = compute_endpoints(weights.variables, spoiled, **named)
            perceptual = np.asarray(lpips_distance(features, wanted, linear))
            for index, (one, other) in enumerate(zip(clean, spoiled, strict=True)):
                # As Wang et al. (2004) define it: a Gaussian window of deviation 1.5.
                similarity = structural_similarity(
                    one,
                    other,
                    channel_axis=-1,
                    gaussian_weights=True,
                    use_sample_covariance=False,
                )
                yield {
                    "photo": first + index,
                    "distortion": distortion,
                    "strength": strength,
                    "seed": seed,
                    "lpips": float(perceptual[index]),
                    "psnr": float(peak_signal_noise_ratio(one, other)),
                    "ssim": float(similarity),
                }


if __name__ == "__main__":
    run_command(main)
