"""The probes along a run: what they see is what the step does, and a resumed run repeats no row."""

import csv
import shutil

import jax
import numpy as np
import pytest

from vgg_jax.runs.directory import LAYERS_FILE
from vgg_jax.training.loop import train
from vgg_jax.training.probing import make_probe, micro_batches
from vgg_jax.training.setup import build, first_state

SMOOTHED = ["--config.optimizer.label_smoothing=0.1"]


def test_probe_sees_what_the_step_does(small_run):
    settings = small_run(
        *SMOOTHED, "--config.model.norm_group=2"
    )  # four micro-batches of a group each
    run = build(settings)
    state = first_state(run, settings)
    batch = run.parallel.put(run.train_data.batch(0))
    measured = make_probe(settings, run)(state, batch)
    before = jax.device_get(state.params)
    state, metrics = run.advance(state, batch)
    after = jax.device_get(state.params)
    assert float(measured["loss"]["all"]) == pytest.approx(float(metrics["loss"]), rel=1e-4)
    assert set(measured["noise_scale"]) == {*run.model.layer_names, "all"}
    for layer in run.model.layer_names:
        kernel = before[layer]["kernel"]
        change = np.linalg.norm(after[layer]["kernel"] - kernel) / np.linalg.norm(kernel)
        assert float(measured["update_ratio"][layer]) == pytest.approx(change, rel=1e-2)


def test_resumed_run_repeats_no_row_and_off_writes_nothing(small_run, tmp_path):
    settings = small_run(*SMOOTHED, "--config.steps=5", "--config.probe.every_steps=2")
    with settings.unlocked():
        settings.checkpoint.every_steps = 3
        settings.eval.every_steps = 0
    train(settings, tmp_path / "on", 0.0)
    table = tmp_path / "on" / LAYERS_FILE
    whole = table.read_text()
    rows = list(csv.DictReader(whole.splitlines()))
    assert {int(row["step"]) for row in rows} == {0, 2, 4}
    keys = [(row["step"], row["layer"], row["quantity"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert rows[0]["init"] == "he_fan_in"

    # As after a kill between the checkpoint of step 3 and the end.
    shutil.rmtree(tmp_path / "on" / "checkpoints" / "5")
    train(settings, tmp_path / "on", 0.0)
    assert table.read_text() == whole

    with settings.unlocked():
        settings.probe.every_steps = 0
        settings.steps = 1
    train(settings, tmp_path / "off", 0.0)
    assert not (tmp_path / "off" / LAYERS_FILE.parent).exists()


@pytest.mark.parametrize(
    ("batch", "group", "parts"), [(32, 1, 4), (6, 1, 3), (7, 1, 1), (8, 4, 2), (2, 1, 2)]
)
def test_micro_batches_keep_groups_whole(batch, group, parts):
    assert micro_batches(batch, group) == parts
