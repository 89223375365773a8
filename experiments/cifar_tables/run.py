"""Makes the CIFAR tables: depth x batch norm, beside the published ones.

    python -m experiments.cifar_tables.run                     everything, for an accelerator
    python -m experiments.cifar_tables.run --preset=short      CIFAR-10 in a quarter of the epochs
    python -m experiments.cifar_tables.run --preset=quick      narrow nets, two epochs, on a CPU
    python -m experiments.cifar_tables.run --runs_at_once=4    several share a GPU
    python -m experiments.cifar_tables.run --preset=full --launcher=ray --gpus_per_run=1
    python -m experiments.cifar_tables.run --redraw            only the tables, of runs in --out

Further arguments are those of `vgg_jax.sweep`; --dry_run prints the training commands. The runs are
kept in --workdir (default: runs/cifar_tables, or runs/cifar_tables_PRESET), and running the same
command again resumes the sweep. The tables are written to --out/PRESET. --tables is another name of
--redraw. The data folder is $TFDS_DATA_DIR.
"""

import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vgg_jax import sweep
from vgg_jax.cli import run_command
from vgg_jax.json_files import write_json
from vgg_jax.reporting.plots import figure
from vgg_jax.reporting.published import read_published
from vgg_jax.runs.directory import CONFIG_FILE, METRICS_FILE, SUMMARY_FILE
from vgg_jax.runs.experiments import ExperimentParser
from vgg_jax.runs.reader import StoredRun
from vgg_jax.runs.tables import markdown
from vgg_jax.sweeping.table import UNKNOWN, spread, sweep_table
from vgg_jax.sweeping.trials import Trial, load_trials

HERE = Path(__file__).parent
SWEEPS = {
    "full": HERE / "sweep.py",
    "short": HERE / "sweep_short.py",
    "quick": HERE / "sweep_quick.py",
}
RESULTS = HERE / "results"
HEADER = ["data", "net", "norm", "last [%]", "best [%]", "seeds", "seconds a run", "published [%]"]


def main(argv: list[str]) -> int:
    """Runs the command line; returns the exit status of the sweep."""
    parser = ExperimentParser(
        __file__,
        __doc__,
        presets=list(SWEEPS),
        default_preset="full",
        redraw_options=["--tables"],
    )
    parser.add_argument("--workdir", type=Path, help="folder of the runs")
    arguments, others = parser.parse_known_args(argv)
    preset = arguments.preset
    name = "cifar_tables" if preset == "full" else f"cifar_tables_{preset}"
    workdir = arguments.workdir or Path("runs") / name
    config, out = SWEEPS[preset], arguments.out / preset
    if arguments.redraw:
        parser.parse_args(argv)  # options of the sweep have no effect here: refuse them
        workdir, status = out, 0
    else:
        status = sweep.main([f"--config={config}", f"--workdir={workdir}", *others])
    if "--dry_run" not in others:
        write_tables(load_trials(config, workdir), out)
        print(f"beside the published figures: {out / 'table.md'}")
    return status


def write_tables(trials: Sequence[Trial], out: Path) -> None:
    """Writes table.md, table.csv and depth.png, and copies what the finished runs recorded."""
    out.mkdir(parents=True, exist_ok=True)
    lines = list(table_lines(trials))
    with (out / "table.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
    (out / "table.md").write_text(markdown(HEADER, lines))
    draw(trials, out)
    for trial in trials:
        if trial.finished() and trial.workdir != out / trial.name:
            _keep(StoredRun(trial.workdir), out / trial.name)


def table_lines(trials: Sequence[Trial]) -> Iterator[list[str]]:
    """Yields a row per net: the accuracy measured here, and every published one."""
    for row in sweep_table(trials):
        net, data, norm = _net(row["config"])
        published = [
            f"{entry['top1']} ({entry['source'].partition(' ')[0]})"
            for entry in read_published("cifar")
            if (entry["net"], entry["dataset"], entry["norm"]) == (net, data, norm)
        ]
        yield [
            data,
            net,
            norm,
            spread(row, "eval/top1", 100, 2),
            spread(row, "best/eval/top1", 100, 2),
            row["seeds"] or UNKNOWN,
            spread(row, "wall_seconds", 1, 0),
            ", ".join(published) or UNKNOWN,
        ]


def draw(trials: Sequence[Trial], out: Path) -> None:
    """Draws depth.png: test accuracy after the last epoch over the weight layers."""
    rows = sweep_table(trials)
    sets = sorted({_net(row["config"])[1] for row in rows})
    with figure(out / "depth", width=4.5 * len(sets), height=3.5) as drawing:
        for axes, data in zip(drawing.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            for norm, label in (("none", "without batch norm"), ("batch", "with batch norm")):
                known = [
                    (int(net.removeprefix("vgg")), 100 * row["eval/top1_mean"], row)
                    for row in rows
                    if row["eval/top1_mean"] is not None
                    for net, *rest in [_net(row["config"])]
                    if rest == [data, norm]
                ]
                if known:
                    depths, means, found = zip(*known, strict=True)
                    spreads = [100 * (row["eval/top1_std"] or 0) for row in found]
                    axes.errorbar(depths, means, spreads, marker="o", capsize=3, label=label)
            axes.set(title=data, xlabel="weight layers", ylabel="test accuracy [%]")
            axes.set_xticks([11, 13, 16, 19])
            if axes.get_legend_handles_labels()[0]:
                axes.legend()


def _net(config: str) -> tuple[str, str, str]:
    """Returns ("vgg16", "cifar10", "batch") for "configs/vgg16.py:cifar10,bn"."""
    path, _, words = config.partition(":")
    data, *recipes = words.split(",")
    return Path(path).stem, data, "batch" if "bn" in recipes else "none"


def _keep(run: StoredRun, folder: Path) -> None:
    """Copies a run's config, metrics and summary, without the paths of its machine."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (METRICS_FILE, CONFIG_FILE):
        shutil.copy(run.path / name, folder / name)
    summary: dict[str, Any] = dict(run.summary)
    summary["command"] = summary["command"].replace(str(run.path), f"runs/{run.name}")
    write_json(folder / SUMMARY_FILE, summary)


if __name__ == "__main__":
    run_command(main)
