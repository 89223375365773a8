"""Training through the command line: a whole run, stops and restarts, and what users get wrong."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.short_runs import (
    ROOT,
    STEPS,
    TINY,
    arrays,
    metrics,
    shown_by_tensorboard,
    start,
    train,
    wait_for_step,
)
from vgg_jax.train import main


def assert_identical(one: Path, other: Path) -> None:
    a, b = arrays(one), arrays(other)
    assert a.keys() == b.keys()
    assert any("kernel" in name for name in a)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    result = train(*TINY, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


def test_run_directory_tells_the_whole_story(finished):
    lines = metrics(finished)
    training = [line for line in lines if "train/loss" in line]
    evaluation = [line for line in lines if "eval/top1" in line]
    assert [line["step"] for line in training] == list(range(4, STEPS + 1, 4))
    assert [line["step"] for line in evaluation] == [12, 24]
    assert all(line["eval/examples"] == 359 for line in evaluation)
    assert all(0 <= line["eval/top1"] <= line["eval/top5"] <= 1 for line in evaluation)
    assert all(line["train/images_per_second"] > 0 for line in training)

    summary = json.loads((finished / "summary.json").read_text())
    assert summary["exit_reason"] == "finished"
    assert summary["steps"] == STEPS
    assert summary["metrics"]["eval/top1"] == evaluation[-1]["eval/top1"]
    assert summary["protocol"]["dataset"] == "digits"
    assert summary["protocol"]["split"] == "test"
    assert {"jax", "flax", "python"} <= summary["versions"].keys()
    assert summary["wall_seconds"] > summary["seconds_to_first_step"] > 0
    config = json.loads((finished / "config.json").read_text())
    assert config["data"]["batch_size"] == 16
    assert list((finished / "tensorboard").glob("events*"))
    # The newest three, and the best one if it is not among them.
    kept = sorted(int(p.name) for p in (finished / "checkpoints").glob("[0-9]*"))
    assert kept in ([16, 20, 24], [12, 16, 20, 24])


def test_same_command_again_prints_the_result_and_writes_nothing(finished, monkeypatch, capsys):
    def files():
        paths = [path for path in finished.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    before = files()
    monkeypatch.chdir(ROOT)
    assert main([*TINY, f"--workdir={finished}"]) == 0
    assert files() == before
    top1 = metrics(finished)[-1]["eval/top1"]
    assert f"digits test top-1 {top1:.2%}" in capsys.readouterr().out


def test_the_stored_config_repeats_the_run_to_the_bit(finished, tmp_path):
    options = ["--config.deterministic=true"]  # of no consequence on a CPU
    result = train(f"--config={finished}/config.json", *options, f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert_identical(finished, tmp_path)
    one, two = (json.loads((run / "summary.json").read_text()) for run in (finished, tmp_path))
    assert one["data_fingerprints"] == two["data_fingerprints"]
    assert one["git_diff_sha256"] == two["git_diff_sha256"]


def test_killed_at_random_moments_ends_bit_identical(finished, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    print("seed of the moments:", seed)
    workdir = tmp_path / "killed"
    for step in sorted(rng.sample(range(1, STEPS), 3)):
        process = start(*TINY, "--config.log.every_steps=1", f"--workdir={workdir}")
        wait_for_step(workdir, step, process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
    result = train(*TINY, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert_identical(finished, workdir)
    # The record holds each step once, as if nothing had happened.
    lines = metrics(workdir)
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == sorted(set(steps))
    shown = sorted((step, name) for step, name, _ in shown_by_tensorboard(workdir / "tensorboard"))
    kept = sorted((line["step"], name) for line in lines for name in line if name != "step")
    assert shown == kept


@pytest.mark.parametrize(
    ("numbers", "status"),
    [([signal.SIGTERM, signal.SIGHUP], 0), ([signal.SIGHUP] * 3, 0), ([signal.SIGINT], 130)],
    ids=["SIGTERM", "closed terminal", "Ctrl-C"],
)
def test_asked_to_stop_saves_and_continues(finished, tmp_path, numbers, status):
    workdir = tmp_path / "stopped"
    # Checkpoints so rare that only the one saved on the way out can be there.
    options = ["--config.checkpoint.every_steps=1000", "--config.log.every_steps=1"]
    process = start(*TINY, *options, f"--workdir={workdir}")
    wait_for_step(workdir, 5, process)
    for number in numbers:  # more than one lose nothing
        process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "run the same command again to resume" in out
    assert "Traceback" not in err
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["exit_reason"] in {number.name for number in numbers}
    assert 5 <= summary["steps"] < STEPS
    result = train(*TINY, f"--workdir={workdir}")
    assert f"resuming after step {summary['steps']}" in result.stdout
    assert_identical(finished, workdir)


def test_an_evaluation_that_a_stop_leaves_out_is_made_when_the_run_resumes(tmp_path):
    """Or else the plateau rule would not see it, and the rest be another training."""
    options = [*TINY, "--config.eval.every_steps=1", "--config.log.every_steps=1"]
    options += ["--config.optimizer.schedule=plateau", "--config.optimizer.plateau_patience=1"]
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    assert train(*options, f"--workdir={undisturbed}").returncode == 0
    process = start(*options, f"--workdir={stopped}")
    wait_for_step(stopped, 5, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    reached = json.loads((stopped / "summary.json").read_text())["steps"]
    assert reached < STEPS
    # Killed after that evaluation and before the next checkpoint, it is made again, and told once.
    process = start(*options, "--config.checkpoint.every_steps=1000", f"--workdir={stopped}")
    wait_for_step(stopped, reached + 1, process)
    process.kill()
    process.communicate()
    assert train(*options, f"--workdir={stopped}").returncode == 0
    assert_identical(undisturbed, stopped)
    lines = [
        [{k: v for k, v in line.items() if k != "train/images_per_second"} for line in metrics(run)]
        for run in (undisturbed, stopped)
    ]
    assert lines[0] == lines[1]
    assert len({line["train/learning_rate"] for line in lines[0] if "train/loss" in line}) > 1


def copy_unfinished(finished, workdir):
    """Copies a run as if it had been killed after its last checkpoint."""
    shutil.copytree(finished, workdir)
    (workdir / "summary.json").unlink()


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_newest_checkpoint_gives_way_to_the_one_before(finished, tmp_path, damage):
    workdir = tmp_path / "damaged"
    copy_unfinished(finished, workdir)
    newest = workdir / "checkpoints" / str(STEPS)
    for path in (newest / "state").rglob("d/*"):
        data = bytearray(path.read_bytes())
        if damage == "truncated":
            del data[len(data) // 2 :]
        else:
            data[len(data) // 2] ^= 1
        path.write_bytes(data)
    result = train(*TINY, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert f"checkpoint {STEPS} is corrupt" in result.stderr
    assert "resuming after step 20" in result.stdout
    assert_identical(finished, workdir)


def test_another_number_of_devices_goes_on_from_the_same_checkpoint(finished, tmp_path):
    workdir = tmp_path / "devices"
    copy_unfinished(finished, workdir)
    for step in (20, 24):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    result = train(*TINY, f"--workdir={workdir}", JAX_NUM_CPU_DEVICES="4")
    assert "resuming after step 16" in result.stdout, result.stderr
    one, four = arrays(finished), arrays(workdir)
    for name in one:
        np.testing.assert_allclose(one[name], four[name], atol=1e-5, err_msg=name)


def test_divergence_stops_with_step_layer_and_status_3(tmp_path):
    workdir = tmp_path / "diverged"
    options = ["--config.optimizer.learning_rate=1e12", "--config.optimizer.warmup_epochs=0.0"]
    result = train(*TINY, *options, "--config.checkpoint.every_steps=1", f"--workdir={workdir}")
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    message = result.stderr[result.stderr.index("error: step") :]
    assert "the first array that is not finite: the" in message
    assert "learning_rate" in message
    # What was kept is from before.
    kept = [p.name for p in (workdir / "checkpoints").glob("[0-9]*")]
    assert kept
    for step in kept:
        assert all(np.isfinite(a).all() for a in arrays(workdir, int(step)).values())


def test_a_net_that_does_not_learn_is_told_why(tmp_path):
    result = train(
        *TINY,
        "--config.model.kernel_init=paper",
        "--config.log.stuck_after_steps=8",
        "--config.steps=8",
        f"--workdir={tmp_path / 'stuck'}",
    )
    assert result.returncode == 0, result.stderr
    assert "still that of guessing, ln(10) = 2.3026" in result.stderr
    assert "RMS of dL/dz" in result.stderr
    assert "conv2_1" in result.stderr
    assert "he_fan_in" in result.stderr


def test_pmap_runs_the_same_training(finished, tmp_path):
    workdir = tmp_path / "pmap"
    result = train(
        *TINY, "--config.parallel.mode=pmap", f"--workdir={workdir}", JAX_NUM_CPU_DEVICES="2"
    )
    assert result.returncode == 0, result.stderr
    one, two = arrays(finished), arrays(workdir)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5, err_msg=name)


def test_vgg16_trains_on_photos_at_224_pixels(shared_data, tmp_path):
    workdir, few = tmp_path / "run", tmp_path / "photos"
    few.mkdir()
    for folder in sorted((shared_data / "photos").iterdir())[:12]:
        (few / folder.name).symlink_to(folder)
    result = train(
        "--config=configs/vgg16.py",
        "--config.model.width=0.03125",
        "--config.data.source=folder",
        f"--config.data.dir={few}",
        "--config.data.train_split=",
        "--config.data.eval_split=",
        "--config.data.batch_size=8",
        "--config.data.workers=1",
        "--config.eval.batch_size=16",
        "--config.steps=3",
        "--config.log.every_steps=1",
        f"--workdir={workdir}",
    )
    assert result.returncode == 0, result.stderr
    lines = metrics(workdir)
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert all(np.isfinite(line["train/loss"]) for line in lines[:3])
    assert lines[3]["eval/examples"] == len(list(few.glob("*/*.jpg"))) > 12
    summary = json.loads((workdir / "summary.json").read_text())
    assert "224" in summary["protocol"]["crop"]
