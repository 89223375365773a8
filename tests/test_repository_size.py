"""The tree stays light: every stored picture is shown by a page, and no file is large."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = (".ci", "configs", "docs", "experiments", "tests", "vgg_jax")
UNTRACKED = {"__pycache__", "cells", "runs", "probabilities", "build"}  # as in .gitignore
PICTURES = {".png", ".jpg", ".jpeg", ".svg"}
LINK = re.compile(r"\]\(([^)#\s]+)")


def files() -> list[Path]:
    """Returns what git tracks; in a copy without git, what is not among the ignored folders."""
    if (ROOT / ".git").exists():
        try:
            command = ["git", "-C", str(ROOT), "ls-files", "-z"]
            listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            tracked = (ROOT / name for name in listed.split("\0") if name)
            return [path for path in tracked if path.is_file()]
        except (OSError, subprocess.CalledProcessError):
            pass  # no git, or a checkout that belongs to another user
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name[0] != "."]
    for folder in FOLDERS:
        for where, folders, names in os.walk(ROOT / folder):
            kept = "results" not in Path(where).parts
            folders[:] = [f for f in folders if (f == "runs" and kept) or f not in UNTRACKED]
            found += [Path(where, name) for name in names]
    return found


def test_every_stored_picture_is_shown():
    shown = {
        (page.parent / link).resolve()
        for page in files()
        if page.suffix == ".md"
        for link in LINK.findall(page.read_text())
    }
    pictures = {path for path in files() if path.suffix in PICTURES}
    assert len(pictures) > 10
    assert not [str(path) for path in sorted(pictures - shown)], "no page links these"


def test_no_file_over_a_megabyte_and_a_tree_below_twelve():
    sizes = {str(path): path.stat().st_size for path in files()}
    assert not [path for path, size in sizes.items() if size > 1_000_000]
    assert sum(sizes.values()) < 12_000_000
