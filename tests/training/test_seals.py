"""Seals: every change to a sealed folder is noticed; what has none is not judged."""

import os

import pytest

from vgg_jax.training.seals import damage, remove_seal, sealed_steps, write_seal


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "7" / "inner").mkdir(parents=True)
    (tmp_path / "7" / "a").write_bytes(b"abc")
    (tmp_path / "7" / "inner" / "b").write_bytes(bytes(100))
    (tmp_path / "7" / "empty").touch()
    write_seal(tmp_path, 7)
    return tmp_path


def test_intact(folder):
    assert damage(folder, 7) is None
    assert sealed_steps(folder) == [7]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: (path / "a").write_bytes(b"abd"), "a is not as it was written"),
        (lambda path: (path / "a").write_bytes(b"abcd"), "a is not as it was written"),
        (lambda path: (path / "empty").write_bytes(b"x"), "empty is not as it was written"),
        (lambda path: os.truncate(path / "inner" / "b", 99), "inner/b is not as it was written"),
        (lambda path: (path / "inner" / "b").unlink(), "inner/b is missing"),
        (lambda path: path.rename(path.with_name("other")), "it is gone"),
    ],
)
def test_changes_are_named(folder, change, told):
    change(folder / "7")
    assert damage(folder, 7) == told


def test_without_a_seal_nothing_is_known(folder):
    remove_seal(folder, 7)
    remove_seal(folder, 7)  # a second time there is none
    assert sealed_steps(folder) == []
    assert damage(folder, 7) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_seal_is_none(folder, content):
    (folder / ".seal-7.json").write_text(content)
    assert damage(folder, 7) is None


def test_storage_that_fails_is_no_damage(folder):
    (folder / "7" / "a").unlink()
    (folder / "7" / "a").symlink_to("a")  # round in circles
    with pytest.raises(OSError, match="symbolic links"):
        damage(folder, 7)
