"""Experiment trackers: the numbers of a run in MLflow and in Weights & Biases.

A tracker is a guest. What it needs it keeps under `trackers/` in the run directory; a network is
used only if the user's environment names a server; and whatever fails in it, training does not:
one warning, and the tracker is off until the run is started again.

A resumed run makes the steps after its checkpoint again. MLflow and an online W&B cannot take back
what they were given, so they are given a number of a step once, the first time. It is the same
number again where training is deterministic; `metrics.jsonl` has the one of the second time. W&B's
offline file is written anew from `metrics.jsonl`. What a tracker missed, because it was off or is
new, it is given when the run resumes.
"""

import importlib.util
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from flax import traverse_util
from ml_collections import ConfigDict

from vgg_jax.config import as_json, flatten
from vgg_jax.errors import UserError, quoted
from vgg_jax.json_files import read_object, write_json
from vgg_jax.reporting.sections import run_page
from vgg_jax.runs.directory import CONFIG_FILE, LAYERS_FILE, METRICS_FILE, SUMMARY_FILE
from vgg_jax.runs.reader import StoredRun
from vgg_jax.training.sinks import Values

FOLDER = "trackers"  # of the run directory
PROJECT = "vgg_jax"  # or as MLFLOW_EXPERIMENT_NAME and WANDB_PROJECT say
FILES = (CONFIG_FILE, METRICS_FILE, LAYERS_FILE, SUMMARY_FILE)  # kept by a tracker, where they are
REPORT_FILE = f"{FOLDER}/report.html"  # curves and maps of the layers, as vgg_jax.report has them
_FINISHED = "finished"  # exit reason of a run that has made all its steps
_MLFLOW_BATCH = 1000, 100  # metrics, and parameters or tags, that a request may have

Line = tuple[int, Values]


class Tracker(Protocol):
    """What one of the trackers does; any method may fail.

    Attributes:
      steps: the last step of every number that the tracker has.
      where: the run there, for the user.
    """

    steps: dict[str, int]
    where: str

    def write(self, lines: Sequence[Line]) -> None:
        """Takes numbers."""

    def finish(self, summary: dict[str, Any], files: Iterable[Path]) -> None:
        """Takes the summary and the run's files: this process has ended the run."""

    def close(self) -> None:
        """Ends the run there, as a failure if it was not finished."""


class Tracking:
    """A tracker as a sink: gives it each number once, and survives it."""

    def __init__(
        self,
        name: str,
        workdir: Path,
        config: ConfigDict,
        kept: Iterable[Values],
        say: Callable[[str], None],
    ) -> None:
        """Opens the run there, a new one or the one that this run directory has had, and fills it.

        Args:
          name: one of `TRACKERS`.
          workdir: the run directory.
          config: of the run.
          kept: the lines of `metrics.jsonl`, all of which the tracker is to have.
          say: shows a message.
        """
        self._name, self._workdir, self._say = name, workdir, say
        self._tracker: Tracker | None = None
        self._guarded(lambda: self._open(config, kept))

    def write(self, step: int, values: Values) -> None:
        """Passes on the numbers that the tracker does not have of this step or a later one."""
        self._guarded(lambda: self._pass_on([(step, values)]))

    def finish(self, summary: dict[str, Any]) -> None:
        """Passes on the summary, the files of the run, and a page with its figures."""
        tracker = self._tracker
        if tracker is not None:
            self._guarded(lambda: tracker.finish(summary, self._files()))

    def close(self) -> None:
        """Ends the run there."""
        tracker = self._tracker
        if tracker is not None:
            self._guarded(tracker.close)

    def _files(self) -> list[Path]:
        report = self._workdir / REPORT_FILE
        report.write_text(run_page(StoredRun(self._workdir)), encoding="utf-8", errors="replace")
        return [*(path for name in FILES if (path := self._workdir / name).is_file()), report]

    def _open(self, config: ConfigDict, kept: Iterable[Values]) -> None:
        (self._workdir / FOLDER).mkdir(exist_ok=True)
        self._tracker = TRACKERS[self._name](self._workdir, config)
        self._say(f"{self._name}: {self._tracker.where}")
        self._pass_on(
            [
                (int(line["step"]), {name: v for name, v in line.items() if name != "step"})
                for line in kept
            ]
        )

    def _pass_on(self, lines: Sequence[Line]) -> None:
        if self._tracker is None:
            return
        has, new = self._tracker.steps, []
        for step, values in lines:
            missing = {name: v for name, v in values.items() if step > has.get(name, -1)}
            if missing:
                has.update(dict.fromkeys(missing, step))
                new.append((step, missing))
        if new:
            self._tracker.write(new)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever its library, its server or its disk makes of it
            self._tracker = None
            reason = quoted(str(error).partition("\n")[0]) if str(error) else ""
            self._say(
                f"warning: {self._name} is off, training continues "
                f"({type(error).__name__} {reason}".rstrip()
                + ")"
            )


class MLflow:
    """A run in MLflow, by its client: `MLFLOW_TRACKING_URI`, or files under the run directory."""

    def __init__(self, workdir: Path, config: ConfigDict) -> None:
        """Resumes the run of this run directory, or makes one with the config as parameters."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A server that does not answer holds training up once, and for seconds.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        if uri is None:  # MLflow prefers a database, for which its light package has no driver
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._metric, self._tag = Metric, RunTag
        store = (workdir / FOLDER / "mlflow").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=uri or store)
        path = workdir / FOLDER / "mlflow.json"
        known = read_object(path) if path.exists() else {}
        if known and known["tracking_uri"] == uri:
            self._run: str = known["run_id"]
            self._client.update_run(self._run, status="RUNNING")
        else:
            self._run = self._new_run(workdir.resolve().name)
            params = [Param(key, str(value)) for key, value in flatten(config).items()]
            for some in _chunks(params, _MLFLOW_BATCH[1]):
                self._client.log_batch(self._run, params=some)
            write_json(path, {"tracking_uri": uri, "run_id": self._run})
        self.steps = {
            name: max(metric.step for metric in self._client.get_metric_history(self._run, name))
            for name in self._client.get_run(self._run).data.metrics
        }
        self.where = f"run {self._run} in {uri or store}"
        self._status = "FAILED"

    def write(self, lines: Sequence[Line]) -> None:
        """Logs the numbers, many in one request."""
        now = int(1000 * time.time())
        metrics = [
            self._metric(name, value, now, step)
            for step, values in lines
            for name, value in values.items()
        ]
        for some in _chunks(metrics, _MLFLOW_BATCH[0]):
            self._client.log_batch(self._run, metrics=some)

    def finish(self, summary: dict[str, Any], files: Iterable[Path]) -> None:
        """Logs the summary as tags, which a later process may replace, and the files."""
        leaves = traverse_util.flatten_dict({"summary": summary}, sep=".")
        tags = [self._tag(key, str(value)) for key, value in leaves.items()]
        for some in _chunks(tags, _MLFLOW_BATCH[1]):
            self._client.log_batch(self._run, tags=some)
        for path in files:
            self._client.log_artifact(self._run, str(path))
        self._status = "FINISHED" if summary["exit_reason"] == _FINISHED else "KILLED"

    def close(self) -> None:
        """Ends the run: finished, killed by a signal, or failed."""
        self._client.set_terminated(self._run, status=self._status)

    def _new_run(self, name: str) -> str:
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self._client.create_experiment(project)
        return self._client.create_run(experiment, run_name=name).info.run_id


class WandB:
    """A run in Weights & Biases: offline, in a file under the run directory, or as WANDB_MODE says.

    An offline file holds the whole run: `wandb sync` replaces what it knows of an id, so that of
    two files with a half each the second would be left. Online, which numbers W&B has is noted
    beside the id.
    """

    def __init__(self, workdir: Path, config: ConfigDict) -> None:
        """Resumes the run of this run directory, or makes one; either has the config."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._artifact, self._workdir = wandb.Artifact, workdir
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        offline = mode != "online"
        self._path = workdir / FOLDER / "wandb.json"
        known = read_object(self._path) if self._path.exists() else {}
        self._id = known.get("id") or uuid.uuid4().hex[:8]
        self.steps: dict[str, int] = {} if offline else known.get("steps", {})
        self._note()
        if offline:
            for replaced in workdir.glob(f"{FOLDER}/wandb/offline-run-*-{self._id}"):
                shutil.rmtree(replaced)
        self._run = wandb.init(
            id=self._id,
            resume=None if offline else "allow",
            mode=mode,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=workdir.resolve().name,
            dir=workdir / FOLDER,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.config.update(flatten(ConfigDict(as_json(config))), allow_val_change=True)
        # Steps as a number among the others: W&B refuses to go back in its own count of them.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        self.where = f"run {self._id}, {self._run.settings.sync_dir if offline else self._run.url}"
        self._exit_code = 1

    def write(self, lines: Sequence[Line]) -> None:
        """Logs a row for each line, and notes that W&B has them."""
        for step, values in lines:
            self._run.log({"step": step, **values})
        self._note()

    def finish(self, summary: dict[str, Any], files: Iterable[Path]) -> None:
        """Gives the run its summary and its files."""
        self._run.summary.update({"summary": summary})
        artifact = self._artifact(f"{self._id}-files", type="run")
        for path in files:  # not copied: they stay where they are
            artifact.add_file(str(path), str(path.relative_to(self._workdir)), policy="immutable")
        self._run.log_artifact(artifact)
        self._exit_code = 0

    def close(self) -> None:
        """Waits until W&B has everything."""
        self._run.finish(exit_code=self._exit_code)

    def _note(self) -> None:
        write_json(self._path, {"id": self._id, "steps": self.steps})


# By name, which is also that of the package and of the extra that installs it.
TRACKERS: dict[str, Callable[[Path, ConfigDict], Tracker]] = {"mlflow": MLflow, "wandb": WandB}


def check_installed(trackers: Iterable[str]) -> None:
    """Checks that the packages of trackers are there; imports none.

    Raises:
      UserError: one is not.
    """
    for name in trackers:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, as wandb makes them
            raise UserError(
                f"log.trackers has {name}, which is not installed: pip install 'vgg_jax[{name}]'"
            )


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
