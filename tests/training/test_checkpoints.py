"""Checkpoints: round trip, what is kept, and damage."""

import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.errors import UserError
from vgg_jax.runs.directory import StorageError
from vgg_jax.training.checkpoints import Checkpoints, fingerprint
from vgg_jax.training.seals import sealed_steps
from vgg_jax.training.state import TrainState


def state_of(step: int) -> TrainState:
    rng = np.random.default_rng(step)
    params = {"conv1_1": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 3, 8)), jnp.float32)}}
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        batch_stats={},
        opt_state=(jax.tree.map(jnp.zeros_like, params), jnp.asarray(step, jnp.int32)),
        healthy=jnp.asarray(True),
    )


# Orbax abandons its event loop when a read fails half-way, which Python remarks on at some later
# garbage collection.
abandons_event_loop = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ABSTRACT = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(0)
)


@pytest.fixture
def open_checkpoints(tmp_path):
    opened = []

    def make(keep: int = 2) -> Checkpoints:
        opened.append(Checkpoints(tmp_path / "checkpoints", keep))
        return opened[-1]

    yield make
    for checkpoints in opened:
        checkpoints.close()


def test_round_trip_of_arrays_and_extras(open_checkpoints):
    checkpoints = open_checkpoints()
    assert checkpoints.restore(ABSTRACT) is None
    checkpoints.save(state_of(5), {"plateau": {"best": 0.25}})
    checkpoints.wait()
    state, extras = open_checkpoints().restore(ABSTRACT)
    jax.tree.map(np.testing.assert_array_equal, state, state_of(5))
    assert extras == {"plateau": {"best": 0.25}}


def test_newest_and_best_are_kept(open_checkpoints):
    checkpoints = open_checkpoints(keep=2)
    for step, top1 in enumerate([0.1, 0.9, 0.5, None, 0.6, None], 1):
        checkpoints.save(state_of(step), {}, top1)
        checkpoints.wait()
    assert checkpoints.steps() == [2, 5, 6]


def test_a_step_saved_twice_is_saved_once(open_checkpoints):
    checkpoints = open_checkpoints()
    checkpoints.save(state_of(1), {"which": "first"})
    checkpoints.save(state_of(1), {"which": "second"})
    checkpoints.wait()
    assert checkpoints.restore(ABSTRACT)[1] == {"which": "first"}


def test_donated_buffers_do_not_reach_into_a_checkpoint(open_checkpoints):
    """The step after a save overwrites the arrays while they are still being written."""
    checkpoints = open_checkpoints()
    step = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
    state = state_of(3)
    checkpoints.save(state, {})
    jax.block_until_ready(step(state))
    checkpoints.wait()
    restored, _ = checkpoints.restore(ABSTRACT)
    jax.tree.map(np.testing.assert_array_equal, restored, state_of(3))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def fill_with_zeros(path):  # what some file systems leave after a power cut
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [flip_a_bit, halve, empty, fill_with_zeros, Path.unlink])
def test_any_damage_to_any_file_of_the_newest_is_noticed(tmp_path, caplog, capfd, damage):
    intact = tmp_path / "intact"
    with closing(Checkpoints(intact, 2)) as checkpoints:
        for step in (1, 2):
            checkpoints.save(state_of(step), {"step": step})
            checkpoints.wait()
    files = [path.relative_to(intact) for path in sorted((intact / "2").rglob("*"))]
    files = [name for name in files if (intact / name).is_file()]
    assert len(files) > 10
    capfd.readouterr()
    for name in files:
        folder = tmp_path / "damaged"
        shutil.copytree(intact, folder)
        damage(folder / name)
        caplog.clear()
        with closing(Checkpoints(folder, 2)) as checkpoints, caplog.at_level("WARNING"):
            state, extras = checkpoints.restore(ABSTRACT)
        assert (int(state.step), extras) == (1, {"step": 1}), name
        (warning,) = caplog.messages
        assert warning.startswith("checkpoint 2 is corrupt ("), name
        assert "Traceback" not in capfd.readouterr().err, name
        shutil.rmtree(folder)


def test_without_its_seal_a_checkpoint_is_judged_by_its_arrays(open_checkpoints, tmp_path):
    """A process may die between a save and its seal."""
    checkpoints = open_checkpoints()
    checkpoints.save(state_of(1), {"step": 1})
    checkpoints.wait()
    for content in (None, "{", "[]"):
        seal = tmp_path / "checkpoints" / ".seal-1.json"
        seal.unlink(missing_ok=True)
        if content is not None:
            seal.write_text(content)
        assert open_checkpoints().restore(ABSTRACT)[1] == {"step": 1}


def test_seals_go_with_their_checkpoints(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints(keep=2)
    for step in range(1, 5):
        checkpoints.save(state_of(step), {})
    checkpoints.wait()
    assert sealed_steps(tmp_path / "checkpoints") == checkpoints.steps() == [3, 4]


def test_no_room_is_noticed_before_anything_is_written(open_checkpoints, tmp_path, monkeypatch):
    checkpoints = open_checkpoints()
    checkpoints.save(state_of(1), {})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"needs 1\.1 MB, and 0\.0 MB are free"):
        checkpoints.save(state_of(2), {})
    assert checkpoints.steps() == [1]


@abandons_event_loop
@pytest.mark.parametrize("what", ["state/d/*", "state/manifest.ocdbt", "content/metadata"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_damage_is_reported_and_the_one_before_is_used(
    open_checkpoints, tmp_path, caplog, what, damage
):
    checkpoints = open_checkpoints()
    for step in (1, 2):
        checkpoints.save(state_of(step), {"step": step})
    checkpoints.wait()
    (tmp_path / "checkpoints" / ".seal-2.json").unlink()  # then Orbax and the arrays tell
    for path in (tmp_path / "checkpoints" / "2").glob(what):
        damage(path)
    checkpoints = open_checkpoints()
    with caplog.at_level("WARNING", logger="absl"):
        state, extras = checkpoints.restore(ABSTRACT)
    assert (int(state.step), extras) == (1, {"step": 1})
    assert "checkpoint 2 is corrupt" in caplog.text
    # It is out of the way, so that step 2 can be saved again.
    assert (tmp_path / "checkpoints" / "corrupt-2").is_dir()
    checkpoints.save(state_of(2), {"step": 22})
    checkpoints.wait()
    assert checkpoints.restore(ABSTRACT)[1] == {"step": 22}


def endless_link(path):
    path.unlink()
    path.symlink_to(path)


def failing_read(path):
    path.unlink()
    path.symlink_to("/proc/self/mem")  # whose first page cannot be read: an input/output error


@abandons_event_loop
@pytest.mark.parametrize(
    ("what", "failure"), [("state/d/*", endless_link), ("state/_METADATA", failing_read)]
)
def test_storage_that_fails_is_no_damage(open_checkpoints, tmp_path, what, failure):
    checkpoints = open_checkpoints()
    for step in (1, 2):
        checkpoints.save(state_of(step), {"step": step})
    checkpoints.wait()
    paths = list((tmp_path / "checkpoints" / "2").glob(what))
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        failure(path)
    checkpoints = open_checkpoints()
    with pytest.raises(UserError, match=r"cannot read checkpoint 2 .* now") as error:
        checkpoints.restore(ABSTRACT)
    assert len(str(error.value).splitlines()) == 2
    assert not list((tmp_path / "checkpoints").glob("corrupt-*"))
    # When it answers again, nothing is lost.
    for path, content in zip(paths, contents, strict=True):
        path.unlink()
        path.write_bytes(content)
    assert checkpoints.restore(ABSTRACT)[1] == {"step": 2}


@abandons_event_loop
def test_nothing_readable_is_an_error(open_checkpoints, tmp_path):
    checkpoints = open_checkpoints()
    checkpoints.save(state_of(1), {})
    checkpoints.wait()
    for path in (tmp_path / "checkpoints" / "1").rglob("d/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="another --workdir"):
        open_checkpoints().restore(ABSTRACT)


def test_fingerprint_notices_one_bit_and_a_swap():
    state = state_of(1)
    before = fingerprint(state)
    assert fingerprint(jax.tree.map(jnp.copy, state)) == before

    def changed(kernel):
        return fingerprint(state.replace(params={"conv1_1": {"kernel": kernel}}))

    kernel = np.array(state.params["conv1_1"]["kernel"])
    flipped = kernel.copy()
    flipped.view(np.uint32)[1, 1, 1, 1] ^= 1
    swapped = kernel.copy()
    swapped[0, 0, 0, [0, 1]] = kernel[0, 0, 0, [1, 0]]
    for other in (flipped, swapped):
        assert changed(jnp.asarray(other)) != before
    assert changed(jnp.asarray(kernel)) == before
