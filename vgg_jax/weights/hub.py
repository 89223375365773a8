"""Files of the Hugging Face Hub: from an address `hf://owner/name` to a path, checked.

    hf://timm/vgg16.tv_in1k                          the file model.safetensors, newest revision
    hf://timm/vgg16.tv_in1k@449504c1                 a commit, a branch or a tag
    hf://owner/name@v1/other.safetensors             another file

Downloads, their cache and the login are those of `huggingface_hub`, and so are its environment
variables: HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN.
"""

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from vgg_jax.errors import UserError, quoted

SCHEME = "hf://"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
CONFIG_FILE = "config.json"  # of timm

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/([^@]+))?")
_REFUSED = (401, 403)  # status codes: who are you, and no
_CHUNK = 2**22  # bytes


class Address(NamedTuple):
    """A file in a repository.

    Attributes:
      repository: "owner/name".
      revision: a commit, branch or tag; None for the newest.
      file: its path there.
    """

    repository: str
    revision: str | None
    file: str

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repository}{at}/{self.file}"


def is_address(path: str | os.PathLike[str]) -> bool:
    """Says whether a path is an address on the Hub."""
    return str(path).startswith(SCHEME)


def parse_address(address: str) -> Address:
    """Returns the parts of `hf://owner/name[@revision][/file]`.

    Raises:
      UserError: it is no such address.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"{quoted(address)} is no address: type hf://owner/name[@revision][/file]")
    repository, revision, file = match.groups()
    return Address(repository, revision and unquote(revision), file or WEIGHTS_FILE)


def local_path(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Returns where the file of an address is on this machine, downloaded if it is not yet.

    Any other path is returned as it is.

    Raises:
      UserError: the address is wrong, `huggingface_hub` is missing, there is no such repository,
        revision or file, it cannot be had now, or it does not have its checksum.
    """
    if not is_address(path):
        return path
    address = parse_address(str(path))
    hub = hub_library()
    with hub_errors(address):
        found = hub.hf_hub_download(
            address.repository, address.file, revision=address.revision, library_name="vgg_jax"
        )
    _check(Path(found), address)
    return found


def beside(path: str, file: str) -> str:
    """Returns the address of another file of the same repository and revision."""
    return str(parse_address(path)._replace(file=file))


def commit_of(found: str | os.PathLike[str], path: str) -> str:
    """Returns the commit that a downloaded file is of: the cache has a folder for each.

    Args:
      found: what `local_path` returned.
      path: the address that it was given.
    """
    levels = parse_address(path).file.count("/")
    return Path(found).parents[levels].name


def hub_library() -> Any:
    """Returns the module `huggingface_hub`.

    Raises:
      UserError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            "addresses hf:// need huggingface_hub: pip install 'vgg_jax[hub]'"
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def hub_errors(address: Address) -> Generator[None]:
    """While entered, what fails on the Hub is an error that the user can do something about.

    Raises:
      UserError: instead of the errors of `huggingface_hub`, of its requests and of the disk.
    """
    from huggingface_hub import errors

    repository = f"{SCHEME}{address.repository}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(f"{repository} wants its terms accepted on its page first") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"no repository {repository}, or a private one: `hf auth login` logs in"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision {address.revision}") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{address} is not in the cache, and the Hub is offline or not reached: "
            "load it once with a network"
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{repository} has no file {address.file}") from error
    except (errors.HTTPError, errors.XetDownloadError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in _REFUSED:
            raise UserError(
                f"the Hub refuses {repository}: `hf auth login` with a token that may do this"
            ) from error
        reason = quoted(str(error).partition("\n")[0])
        raise UserError(f"{address} failed: {type(error).__name__} {reason}") from error


def _check(path: Path, address: Address) -> None:
    """Checks a file against the checksum that the Hub gave for it.

    The cache names content after it: SHA-256 of a large file, git's SHA-1 of a small one. A cache
    without links, which no Linux file system needs, has no such names.
    """
    if not path.is_symlink():
        return
    checksum = path.readlink().name
    status = path.stat()
    if not _has_checksum(path.resolve(), checksum, status.st_size, status.st_mtime_ns):
        raise UserError(
            f"{address} does not have its checksum: the download or the disk damaged it; "
            f"rm {path.resolve()} and load it again"
        )


@functools.lru_cache(maxsize=64)
def _has_checksum(path: Path, checksum: str, size: int, changed: int) -> bool:
    """Says whether a file has a checksum; reads it once for the same size and time of change."""
    del changed
    kinds = {64: hashlib.sha256(), 40: hashlib.sha1(f"blob {size}\0".encode())}
    digest = kinds.get(len(checksum))
    if digest is None:  # a mirror's own names
        return True
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == checksum
