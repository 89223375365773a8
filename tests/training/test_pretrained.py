"""What a run takes from a weights file: tensors to the bit, inputs on the config's scale."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.evaluation.nets import tiny_weights
from tests.models.nets import he_start, random_images, small_vgg
from vgg_jax.config import load_config
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.training.pretrained import (
    check_pretrained,
    describe_start,
    input_settings,
    taken_tensors,
    with_pretrained,
)
from vgg_jax.training.setup import from_config
from vgg_jax.weights.store import flat_tensors, network_tensors, save_weights

CLASSIFIER = {"fc8/kernel", "fc8/bias"}


@pytest.fixture(scope="module")
def weights():
    """A network with batch norm, and other running statistics than a new one has."""
    model = small_vgg(norm="batch")
    variables = he_start(model, random_images(1))
    variables["batch_stats"]["bn1_1"]["mean"] += 0.5
    return dataclasses.replace(tiny_weights(), model=model, variables=variables)


@pytest.fixture
def recipe(weights, tmp_path, pytestconfig, monkeypatch):
    """Returns a function from overrides to the config of a run that starts from the file."""
    monkeypatch.chdir(pytestconfig.rootpath)
    path = tmp_path / "net.safetensors"
    save_weights(path, weights)

    def make(*overrides: str):
        changes = [f"--config.{override}" for override in overrides]
        return load_config(f"configs/finetune.py:{path},digits", changes)

    return make


def test_inputs_of_the_file_on_the_scale_of_the_config():
    preprocessing = Preprocessing(10, 8, (0.4, 0.5, 0.6), (0.2, 0.25, 0.5), scale=1 / 255)
    settings = input_settings(preprocessing)
    assert settings["mean"] == pytest.approx((102, 127.5, 153))
    assert settings["std"] == pytest.approx((51, 63.75, 127.5))
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    same = dataclasses.replace(preprocessing, scale=1.0, **settings)
    np.testing.assert_allclose(same.normalize(pixels), preprocessing.normalize(pixels), atol=1e-5)


@pytest.mark.parametrize(
    ("fresh", "new"),
    [
        ("('fc8/.*',)", CLASSIFIER),
        ("('fc8/bias',)", {"fc8/bias"}),
        ("('fc8/.*','bn2_2/(mean|var)')", {*CLASSIFIER, "bn2_2/mean", "bn2_2/var"}),
    ],
)
def test_all_is_taken_but_what_is_to_be_new(recipe, fresh, new):
    config = recipe(f"init.fresh={fresh}")
    model, _, _ = from_config(config)
    assert taken_tensors(config, model) == network_tensors(model).keys() - new
    words = f"new: {', '.join(sorted(new))}"
    assert describe_start(config, model) == f"starting from {config.init.weights}; {words}"


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_taken_tensors_are_the_file_s_to_the_bit_and_a_new_classifier_is_zero(recipe, weights, ema):
    config = recipe(f"optimizer.ema={ema}", "init.fresh=('fc8/.*','conv2_2/.*')")
    model, _, init_fn = from_config(config)
    check_pretrained(config, model)
    drawn = jax.jit(init_fn)()
    state = with_pretrained(drawn, config, model)
    found = flat_tensors(state.eval_variables())
    theirs, before = flat_tensors(weights.variables), flat_tensors(drawn.eval_variables())
    assert found.keys() == before.keys()
    for name, array in found.items():
        expected = before if name.startswith("conv2_2") else theirs
        if name == "fc8/kernel":
            expected = {name: np.zeros((2, 2, 8, 10), np.float32)}
        elif name == "fc8/bias":
            expected = before
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, drawn.opt_state)
    if ema:
        pairs = zip(jax.tree.leaves(state.ema), jax.tree.leaves(state.params), strict=True)
        assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in pairs)


def test_the_check_reads_no_tensors(recipe, weights, tmp_path):
    """A value that is not finite shows where the tensors are read."""
    spoilt = jax.tree.map(lambda x: x, weights.variables)
    spoilt["params"]["conv1_1"]["bias"] = np.full(4, np.nan, np.float32)
    config = recipe()
    save_weights(config.init.weights, dataclasses.replace(weights, variables=spoilt))
    model, _, init_fn = from_config(config)
    check_pretrained(config, model)
    with pytest.raises(UserError, match="conv1_1/bias are not finite"):
        with_pretrained(jax.jit(init_fn)(), config, model)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.stages=('3-4','3-8')"], "has model.stages="),
        (["model.norm_epsilon=0.1"], "has model.norm_epsilon=1e-05, this run 0.1"),
        (["model.activation=tanh"], "has model.activation=relu, this run tanh"),
        (["init.fresh=()"], r"fc8/bias is of shape \(3,\) in .*, and \(10,\) here"),
        (["model.head=cifar"], "fc6/bias is absent .* linear, 8"),
        (["data.image_size=16", "data.eval_resize=16"], None),  # the classifier is new anyway
        (["data.std=(50.0,50.0,51.0)"], "wants data.std="),
        (["data.mean=(110.0,120.0,130.001)"], None),  # to four digits
        (["model.kernel_init=lsuv"], "lsuv rescales"),
    ],
)
def test_a_file_for_another_network_or_other_inputs_is_refused(recipe, overrides, message):
    config = recipe(*overrides)
    model, _, _ = from_config(config)
    if message is None:
        check_pretrained(config, model)
        return
    with pytest.raises(UserError, match=f"(?s){message}"):
        check_pretrained(config, model)


def test_new_tensors_without_a_file_are_a_mistake(recipe):
    config = recipe()
    model, _, _ = from_config(config)
    config.init.weights = None
    with pytest.raises(UserError, match=r"init\.fresh needs the weights to start from"):
        check_pretrained(config, model)
    config.init.fresh = ()
    check_pretrained(config, model)
