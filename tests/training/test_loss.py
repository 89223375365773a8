"""The loss of the whole batch is the loss of the step, however the step splits the batch."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from tests.training.conftest import SIZE
from vgg_jax.training.parallel import make_parallel
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import TrainLoss, augmented, cross_entropy, make_train_step

SEED, BATCH = 3, 16


@pytest.mark.parametrize(
    ("mode", "options", "fields"),
    [
        ("jit", {}, {}),
        ("jit", {"accumulate": 4}, {}),
        ("jit", {"accumulate": 2, "group": 2}, {"norm": "batch", "norm_group": 2}),
        ("pmap", {}, {"norm": "batch"}),
        ("pmap", {"accumulate": 2}, {}),
        ("pmap", {"accumulate": 2, "group": 2}, {"norm": "batch", "norm_group": 2}),
    ],
)
def test_loss_and_gradient_are_those_of_the_step(
    tiny_vgg, augment, batch_of, mode, options, fields
):
    head = {"head": "cifar", "head_features": (8,), "head_window": SIZE // 2, "dropout": 0.5}
    model = tiny_vgg(stages=("3-4",), **head | fields)
    parallel = make_parallel(mode)
    loss = TrainLoss(model, SEED, label_smoothing=0.1, **options)
    adapted = dataclasses.replace(loss, model=parallel.adapted(model))
    optimizer = optax.sgd(0.1)
    step = parallel.compile_train(
        make_train_step(adapted, optimizer, augment, axis_name=parallel.axis_name)
    )
    state = parallel.init(
        lambda: new_state(init_variables(model, 0, SIZE), optimizer, with_ema=False)
    )
    batch = parallel.put(batch_of(BATCH))
    seen = augmented(augment, SEED, 0, batch)

    @jax.jit
    def examine(state, seen):
        return jax.value_and_grad(
            lambda params: loss.of_batch(params, state, seen, {}), has_aux=True
        )(state.params)

    (value, endpoints), gradient = examine(state, seen)
    assert endpoints["fc8"].shape == (BATCH, 1, 1, 4)
    # The endpoints are in the order of the batch: they give the loss again.
    logits = endpoints["fc8"][:, 0, 0]
    assert float(cross_entropy(logits, seen["label"], 0.1)) == pytest.approx(float(value), rel=1e-5)
    _, metrics = step(state, batch)
    assert float(value) == pytest.approx(float(metrics["loss"]), rel=1e-5)
    norm = float(optax.tree.norm(gradient))
    assert norm == pytest.approx(float(metrics["gradient_norm"]), rel=1e-4)


def test_cross_entropy_equals_its_definition():
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    true = log_p[np.arange(5), labels]
    expected = -(0.7 * true + 0.3 * log_p.mean(-1)).mean()
    assert float(cross_entropy(logits, labels, 0.3)) == pytest.approx(float(expected), rel=1e-5)
