"""Plain and residual nets: the command line at a tiny size, and what the nets compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.depth_limit import measure, report, run
from experiments.depth_limit.measure import gradients, variances
from experiments.depth_limit.nets import KINDS, Net, draw, forward, kernel_norms
from experiments.depth_limit.presets import Preset
from experiments.depth_limit.training import load, make_net, steps_to
from vgg_jax.errors import UserError
from vgg_jax.runs.tables import read_table


@pytest.fixture
def one_kind():
    """Leaves one kind of net, and then puts all back in their order."""
    every = dict(KINDS)
    KINDS.clear()
    KINDS["residual, batch norm"] = every["residual, batch norm"]
    yield
    KINDS.clear()
    KINDS.update(every)


def test_trains_once_and_redraws(one_kind, tmp_path, monkeypatch, capsys):
    preset = Preset("digits", (5,), 2, 40, 32, (0.01, 0.1), 2, (5,), (2,), 2, 5)
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    for _ in range(2):
        assert run.main([f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out.count("residual, batch norm, 5 layers") == 1

    runs = read_table(tmp_path / report.RUNS)
    chosen = report.trained(runs, "residual, batch norm", "5")
    assert chosen["seed"].tolist() == [1, 2]
    assert np.all(chosen["accuracy"].astype(float) > 0.3)
    lesions = read_table(tmp_path / report.LESIONS)
    assert lesions["layer"].tolist() == ["0", "0", "1", "1", "2", "2", "0", "0"]
    text = (tmp_path / "table.md").read_text()
    assert "| residual, batch norm, 5 layers | predicted | 0.61" in text  # before the stream grows
    (tmp_path / "table.md").unlink()
    assert run.main([f"--out={tmp_path}", "--redraw"]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "depth.png").exists()


def test_colour_images_are_halved_twice(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 6), ("test", 4)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 3
    np.savez(tmp_path / "cifar10.npz", **arrays)
    data = load("cifar10", tmp_path / "cifar10.npz")
    images = data.normalized(data.images)
    assert images.mean((0, 1, 2)) == pytest.approx(np.zeros(3), abs=1e-5)
    assert images.std((0, 1, 2)) == pytest.approx(np.ones(3), rel=1e-5)
    net = make_net("plain", 5, 2, data)
    assert net.map_shape == (8, 8, 2)
    assert forward(net, draw(net, jax.random.key(0)), images)[0].shape == (6, 10)


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(UserError, match="give --data_dir=FILE"):
        run.main(["--preset=cifar10", f"--out={tmp_path}"])
    with pytest.raises(UserError, match="run without --redraw first"):
        run.main(["--redraw", f"--out={tmp_path}"])


def test_fixup_starts_as_without_its_branches():
    net = Net(7, 2, residual=True, fixup=True)
    params = draw(net, jax.random.key(0))
    images = jnp.ones((2, 8, 8, 1))
    found, _ = forward(net, params, images)
    without, _ = forward(net, params, images, kept=jnp.zeros((2, 2), bool))
    np.testing.assert_allclose(found, without, rtol=1e-6, atol=1e-7)
    norms = kernel_norms(params)["blocks"]
    assert np.all(norms[:, 0] > 0)
    assert not np.any(norms[:, 1])


def test_layer_that_is_taken_out_hands_on_what_it_gets():
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    deep = Net(7, 2)
    params = draw(deep, jax.random.key(0))
    first = params | {"blocks": jax.tree.map(lambda values: values[:1], params["blocks"])}
    shorter, _ = forward(Net(5, 2), first, images)
    found, _ = forward(deep, params, images, kept=jnp.array([[True, True], [False, False]]))
    np.testing.assert_allclose(found, shorter, rtol=1e-5, atol=1e-6)


def test_growth_follows_from_the_variances_measured(monkeypatch):
    """In a deep plain net, whose variances are not those of independent images."""
    monkeypatch.setattr(measure, "BATCH", 16)
    data, kind, layers, channels = load("digits", None), "plain, batch norm", 101, 64
    net = make_net(kind, layers, channels, data)
    of = {"kind": kind, "layers": str(layers), "channels": str(channels)}
    profile, given = (
        {name: np.array([(of | row)[name] for row in found]) for name in of | found[0]}
        for found in (gradients(net, data, 1), variances(net, data, 1))
    )
    measured = report.profile_of(profile, *of.values())[:, 0]
    assert measured < np.log(report.predicted(kind, layers)[0]) - 1
    assert report.growth_from_variances(given, *of.values()) == pytest.approx(measured, abs=0.5)


def test_steps_to():
    hits = np.r_[np.zeros(20), np.ones(40)]
    assert steps_to(hits, 0.8) == 36  # 16 of the last 20
    assert np.isnan(steps_to(hits[:30], 0.8))


@pytest.mark.parametrize("periodic", [True, False])
def test_periodic_maps_have_no_border(periodic):
    """A shifted image has shifted maps: its gradients too; zeros behind the edge break that."""
    net = Net(9, 3, norm="batch", residual=True, periodic=periodic)
    params = draw(net, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))

    def moments(images):
        return forward(net, params, images)[1]["blocks"]

    shifted = moments(jnp.roll(images, (3, 5), (1, 2)))
    assert np.allclose(shifted, moments(images), rtol=1e-4, atol=1e-5) == periodic
