"""MLflow and W&B: each number once over all starts of a run, and training outlives them."""

import json
import struct
import time
from pathlib import Path

import pytest

from tests.short_runs import metrics
from vgg_jax.config import as_json, load_config
from vgg_jax.errors import UserError
from vgg_jax.json_files import write_json
from vgg_jax.training.loop import train
from vgg_jax.training.setup import build
from vgg_jax.training.trackers import TRACKERS, Tracking, check_installed

SUMMARY = {"exit_reason": "finished", "steps": 4, "metrics": {"train/loss": 0.5}}
LAYERS = (
    "step,layer,quantity,value\n1,conv1_1,weight_grad_norm,0.5\n2,conv1_1,weight_grad_norm,0.25\n"
)
BLOCK = 32768  # bytes, of W&B's file


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No server, and nothing of the user's: W&B logs to the cache folder, MLflow to its config."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "home"))


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "run"
    (folder / "probes").mkdir(parents=True)
    write_json(folder / "config.json", as_json(load_config("vgg16:digits")))
    write_json(folder / "summary.json", SUMMARY)
    lines = [{"step": step, "train/loss": 4.0 - step} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "probes" / "layers.csv").write_text(LAYERS)
    return folder


def start(name, workdir, *steps, kept=(), finish=True, say=print, config="vgg16:digits"):
    """Runs from one start to its end; a line is the pair of step and value."""
    lines = [{"step": step, "train/loss": value} for step, value in kept]
    tracking = Tracking(name, workdir, load_config(config), lines, say)
    for step, value in steps:
        tracking.write(step, {"train/loss": value})
    if finish:
        tracking.finish(SUMMARY)
    tracking.close()


def mlflow_client(workdir):
    tracking = pytest.importorskip("mlflow.tracking", reason="needs the extra `mlflow`")
    client = tracking.MlflowClient((workdir / "trackers" / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("vgg_jax").experiment_id])
    return client, run


def mlflow_history(workdir, name="train/loss"):
    client, run = mlflow_client(workdir)
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def wandb_records(workdir):
    """Returns what is in W&B's file; its own process writes the end of it a moment after close."""
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="needs the extra `wandb`")
    (path,) = workdir.glob("trackers/wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        records = [proto.Record.FromString(text) for text in leveldb_records(path.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.01)
    raise AssertionError(f"{path} has no end")


def leveldb_records(content):
    """Yields the records of a log in LevelDB's format, after W&B's header of 7 bytes.

    The last one may still be on its way to the disk: a part of a record is none.
    """
    place, whole = 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        if place + 7 + length > len(content):
            return
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def wandb_history(workdir, name="train/loss"):
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item}
        for r in wandb_records(workdir)
        if r.WhichOneof("record_type") == "history"
    ]
    return [(row["step"], row[name]) for row in rows if name in row]


@pytest.mark.parametrize("written", range(7, 7 + 2 * (7 + 5) + 1))
def test_a_record_on_its_way_to_the_disk_is_not_read(written):
    record = struct.pack("<IHB", 0, 5, 1) + b"abcde"
    content = (b":W&B\xee\xbe\x00" + 2 * record)[:written]
    assert list(leveldb_records(content)) == [b"abcde"] * ((written - 7) // 12)


HISTORY = {"mlflow": mlflow_history, "wandb": wandb_history}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_resumed_run_has_each_step_once_and_what_was_missed(name, workdir):
    pytest.importorskip(name, reason=f"needs the extra `{name}`")
    start(name, workdir, (1, 4.0), (2, 3.0), (3, 2.0), finish=False)
    assert HISTORY[name](workdir) == [(1, 4.0), (2, 3.0), (3, 2.0)]
    # The newest checkpoint was of step 2, so that step 3 is made again.
    start(name, workdir, (3, 2.0), (4, 1.0), kept=[(1, 4.0), (2, 3.0)])
    assert HISTORY[name](workdir) == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    # Steps 5 and 6 came while the tracker was off.
    kept = [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0), (5, 0.9), (6, 0.8)]
    start(name, workdir, (7, 0.7), kept=kept)
    assert HISTORY[name](workdir) == [*kept, (7, 0.7)]


def test_mlflow_has_config_summary_and_files(workdir):
    pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    start("mlflow", workdir, (1, 4.0), finish=False)
    client, run = mlflow_client(workdir)
    assert run.info.status == "FAILED"
    assert run.info.run_name == "run"
    assert run.data.params["model.variant"] == "D"
    assert run.data.params["data.mean"] == "(78.0, 78.0, 78.0)"
    start("mlflow", workdir, (2, 3.0), config="vgg16:digits")
    client, run = mlflow_client(workdir)
    assert run.info.status == "FINISHED"
    assert run.data.tags["summary.metrics.train/loss"] == "0.5"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        *("config.json", "metrics.jsonl", "summary.json", "layers.csv", "report.html")
    }
    (stored,) = workdir.glob("trackers/mlflow/*/*/artifacts/layers.csv")
    assert stored.read_text() == LAYERS
    report = stored.with_name("report.html").read_text()
    assert report.count("<svg") == 2  # the loss, and the layers' gradients


def test_wandb_has_config_summary_and_files(workdir, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_PROJECT", "nets")
    start("wandb", workdir, (1, 4.0))
    records = {r.WhichOneof("record_type"): r for r in wandb_records(workdir)}
    assert (records["run"].run.project, records["run"].run.display_name) == ("nets", "run")
    assert (
        records["run"].run.run_id == json.loads((workdir / "trackers/wandb.json").read_text())["id"]
    )
    config = {item.key: item.value_json for item in records["config"].config.update}
    assert config["model.variant"] == '"D"'
    assert config["data.mean"] == "[78.0,78.0,78.0]"
    summaries = [
        item.value_json
        for r in wandb_records(workdir)
        for item in r.summary.update
        if item.key == "summary"
    ]
    assert json.loads(summaries[0]) == SUMMARY
    contents = {entry.path for entry in records["artifact"].artifact.manifest.contents}
    assert contents == {
        *("config.json", "metrics.jsonl", "summary.json", "probes/layers.csv"),
        "trackers/report.html",
    }
    assert records["exit"].exit.exit_code == 0


def test_a_whole_run(small_run, tmp_path, capsys):
    """All numbers of `metrics.jsonl`, by the command line's own loop."""
    for name in TRACKERS:
        pytest.importorskip(name, reason=f"needs the extra `{name}`")
    arguments = ["--config.log.every_steps=1", "--config.steps=2"]
    train(small_run(*arguments, "--config.log.trackers=('mlflow','wandb')"), tmp_path / "run", 0.0)
    for key in ("train/loss", "eval/top1"):
        kept = [(line["step"], line[key]) for line in metrics(tmp_path / "run") if key in line]
        assert kept
        for history in HISTORY.values():
            assert history(tmp_path / "run", key) == pytest.approx(kept)
    assert "warning" not in capsys.readouterr().out


class Broken:
    """A tracker that fails where its environment says so."""

    where = "nowhere"
    at = ""

    def __init__(self, workdir: Path, config):
        self.steps: dict[str, int] = {}
        self._do("open")

    def write(self, lines):
        self._do("write")

    def finish(self, summary, files):
        self._do("finish")

    def close(self):
        self._do("close")

    def _do(self, what):
        if what == self.at:
            raise ConnectionError(f"no route at {what}\nand a page of more")


@pytest.mark.parametrize("at", ["open", "write", "finish", "close"])
def test_a_tracker_that_fails_is_off_after_one_line(workdir, monkeypatch, at):
    monkeypatch.setitem(TRACKERS, "mlflow", Broken)
    monkeypatch.setattr(Broken, "at", at)
    said: list[str] = []
    start("mlflow", workdir, (1, 4.0), (2, 3.0), say=said.append)
    warnings = [line for line in said if line.startswith("warning")]
    assert warnings == [
        f"warning: mlflow is off, training continues (ConnectionError 'no route at {at}')"
    ]


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("mlflow", "MLFLOW_TRACKING_URI", "http://127.0.0.1:9"),  # nobody listens
        ("mlflow", "MLFLOW_TRACKING_URI", "no-such-store://x"),
        ("wandb", "WANDB_MODE", "sideways"),
    ],
)
def test_what_the_environment_has_wrong_does_not_end_training(
    workdir, monkeypatch, name, variable, value
):
    pytest.importorskip(name, reason=f"needs the extra `{name}`")
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    start(name, workdir, (1, 4.0), say=said.append)
    assert len(said) == 1
    assert said[0].startswith(f"warning: {name} is off, training continues (")


def test_a_disk_that_fails_does_not_end_training(workdir):
    (workdir / "trackers").touch()  # no folder can be made
    said: list[str] = []
    start("mlflow", workdir, (1, 4.0), say=said.append)
    assert said[0].startswith("warning: mlflow is off, training continues (FileExistsError")


def test_a_missing_package_is_told_before_anything_else(small_run, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^log.trackers has wandb, which .*'vgg_jax\[wandb\]'$"):
        build(small_run("--config.log.trackers=('wandb',)"))


def test_a_folder_of_the_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "a_tracker").mkdir()  # as ./wandb, which W&B leaves behind
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"log\.trackers has a_tracker, which is not installed"):
        check_installed(["a_tracker"])
    check_installed(["json"])


def test_an_unknown_tracker_is_refused(small_run):
    with pytest.raises(UserError, match=r"config\.log\.trackers"):
        build(small_run("--config.log.trackers=('comet',)"))
