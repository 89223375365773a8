"""Writes intermediates of a network for images to an .npz file.

    python -m vgg_jax.extract --weights=vgg16.safetensors --endpoints=relu7 OUT.npz cat.jpg dog.png
    python -m vgg_jax.extract --weights=vgg19.safetensors --endpoints=relu4_2,pool5 OUT.npz *.jpg

OUT.npz holds a float32 array (images, h, w, channels) by the name of each endpoint, and `images`,
the paths in the same order. Endpoints are named as in docs/architecture.md.
"""

from pathlib import Path
from typing import Any

from vgg_jax.cli import CommandParser, quick_imports, run_command
from vgg_jax.errors import UserError


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.extract", __doc__)
    parser.add_argument("--weights", required=True, help="weights file or hf://owner/name")
    parser.add_argument("--endpoints", required=True, help="such as relu4_2,pool5,relu7")
    parser.add_argument("--batch_size", type=int, default=16, help="images per batch; default 16")
    parser.add_argument("out", metavar="OUT.npz", type=Path)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    args = parser.parse_args(argv)
    if args.out.suffix != ".npz":
        raise UserError(f"{args.out} comes first and is the file to write: name it {args.out}.npz")

    # Imported late: --help answers at once.
    with quick_imports():
        import numpy as np

        from vgg_jax.features.extractor import extract_features
        from vgg_jax.xla import enable_compilation_cache

    enable_compilation_cache()
    features = extract_features(
        args.weights, args.images, args.endpoints.split(","), batch_size=args.batch_size
    )
    arrays: dict[str, Any] = {"images": np.array(args.images), **features}
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(args.out, **arrays)
    except OSError as error:
        raise UserError(f"cannot write {args.out}: {error.strerror}") from error
    for name, values in features.items():
        print(f"{name:>8}  {' x '.join(map(str, values.shape))}")
    return 0


if __name__ == "__main__":
    run_command(main)
