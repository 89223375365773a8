"""Downloads a TFDS data set and writes it as array_record, which training reads.

python -m vgg_jax.prepare cifar10 [--data_dir=DIR]

Writing needs TensorFlow, once: the extra `prepare`. Reading the copy does not.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Downloads a data set and writes it as array_record, showing its progress.

    Args:
      name: of the data set, as TFDS writes it: "cifar10", "imagenette/320px-v2".
      data_dir: the folder of TFDS data sets; None for `$TFDS_DATA_DIR`, else TFDS's default.

    Returns:
      The folder of the data set, which may have been there before.

    Raises:
      UserError: unknown name, TensorFlow missing, or no way to get the files.
    """
    # Imported late: --help and completions answer at once.
    import tensorflow_datasets as tfds

    from vgg_jax.data.tfds_copy import FILE_FORMAT, find_builder, is_prepared, tfds_folder

    folder = tfds_folder(data_dir)
    builder = find_builder(name, folder)
    if is_prepared(builder):
        print(f"{name} is already prepared: {builder.data_path}")
        return Path(builder.data_path)
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "TFDS needs TensorFlow to write a data set: pip install tensorflow-cpu "
            "(this project's extra 'prepare')"
        )
    builder = tfds.builder(name, data_dir=folder, file_format=FILE_FORMAT, try_gcs=False)
    write(builder, folder)
    print(f"wrote {name}: {builder.data_path}")
    return Path(builder.data_path)


def write(builder: "tfds.core.DatasetBuilder", folder: Path) -> None:
    """Downloads and writes a data set into the folder of TFDS data sets.

    Raises:
      UserError: files that TFDS may not download are missing, or a download failed.
    """
    import tensorflow_datasets as tfds

    manual = folder / "downloads" / "manual"
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if instructions and not (manual.is_dir() and any(manual.iterdir())):
        how = " ".join(instructions.split())
        raise UserError(f"{builder.name} must be downloaded by hand into {manual}:\n{how}")
    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:  # requests' errors are OSErrors
        raise UserError(f"cannot prepare {builder.name}: {error}") from error


def main(arguments: list[str]) -> int:
    """Runs the command line."""
    parser = CommandParser("vgg_jax.prepare", __doc__)
    parser.add_argument("name", help="data set, as TFDS writes it: cifar10, imagenette/320px-v2")
    parser.add_argument(
        "--data_dir", help="folder of TFDS data sets (default: $TFDS_DATA_DIR, else TFDS's own)"
    )
    options = parser.parse_args(arguments)
    prepare(options.name, options.data_dir)
    return 0


if __name__ == "__main__":
    run_command(main)
