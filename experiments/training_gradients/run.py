"""How gradients, layer by layer, change along training: depth x batch norm x initialisation.

    python -m experiments.training_gradients.run [--preset=NAME] [--out=DIR] [--data_dir=DIR]
    python -m experiments.training_gradients.run --redraw [--preset=NAME] [--out=DIR]
    python -m experiments.training_gradients.run overhead [--out=DIR]

The first trains one run after another with the probes on; run it again to resume. `--data_dir` is
TFDS's folder, for the CIFAR-10 of the presets `cifar10` and `full`. `--redraw` (or the word
`figures`) writes tables and figures again from the csv, without training. `overhead` times a
training step and a probe in turn.
"""

import dataclasses
import itertools
import time
from pathlib import Path

from ml_collections import ConfigDict

from configs.base import vgg
from experiments.training_gradients import figures
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.xla import enable_compilation_cache


@dataclasses.dataclass(frozen=True)
class Preset:
    """The runs: every net, with and without batch norm, from every initialiser."""

    data: str
    nets: tuple[str, ...]
    inits: tuple[str, ...]
    width: float
    batch_size: int
    steps: int
    probe_every: int
    log_every: int
    eval_every: int
    learning_rate: float


_DIGITS = Preset(
    "digits", ("A", "B", "D", "E"), ("he_fan_in", "paper"), 0.125, 32, 60, 4, 4, 30, 0.02
)
_FULL = Preset(
    "cifar10",
    ("A", "B", "D", "E"),
    ("he_fan_in", "paper", "glorot_normal", "orthogonal"),
    1.0,
    128,
    20 * 391,
    100,
    20,
    391,
    0.02,
)
PRESETS = {
    "quick": dataclasses.replace(_DIGITS, nets=("D",)),
    "digits": _DIGITS,
    "cifar10": dataclasses.replace(_FULL, width=0.125, steps=391, probe_every=23, log_every=23),
    "full": _FULL,
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(
        __file__,
        __doc__,
        presets=[*PRESETS],
        folder_per_preset=True,
        redraw_word=("what", "figures"),
    )
    parser.add_argument(
        "what", nargs="?", choices=("train", "figures", "overhead"), default="train"
    )
    parser.add_argument("--data_dir", help="TFDS's folder, for cifar10 and full")
    arguments = parser.parse_args(argv)
    out = arguments.out
    if arguments.what == "overhead":
        if out == parser.results / arguments.preset:  # the default, which is a preset's folder
            out = parser.results / "overhead"
        time_probes(out, Record(out, parser.module, argv))
        return 0
    if not arguments.redraw:
        record = Record(out, parser.module, argv)
        train_all(PRESETS[arguments.preset], out, arguments.data_dir)
        record.write()
        figures.gather(out)
    figures.draw(stored(out / figures.LAYERS_TABLE).parent)
    return 0


def time_probes(out: Path, record: Record) -> None:
    """Times steps and probes of net D with batch norm: as in `quick`, and at full width."""
    from experiments.training_gradients.overhead import overhead_tables  # starts JAX

    enable_compilation_cache()
    quick = PRESETS["quick"]
    configs = {
        f"D, batch norm, width {preset.width:g}, digits, batch of {preset.batch_size}": run_config(
            preset, "D", "batch", "he_fan_in", None
        )
        for preset in (quick, dataclasses.replace(quick, width=1.0))
    }
    out.mkdir(parents=True, exist_ok=True)
    for table in overhead_tables(configs):
        print(table, flush=True)
        (out / "overhead.md").write_text(table)
        record.write()


def train_all(preset: Preset, out: Path, data_dir: str | None) -> None:
    """Trains the runs of a preset, each in a run directory of its own under `out`/runs."""
    from vgg_jax.training.diagnosis import NonFiniteError
    from vgg_jax.training.loop import train

    enable_compilation_cache()
    grid = list(itertools.product(preset.nets, ("none", "batch"), preset.inits))
    for done, (net, norm, init) in enumerate(grid, 1):
        print(f"run {done}/{len(grid)}: net {net}, norm {norm}, {init}", flush=True)
        workdir = out / "runs" / f"{net}-{norm}-{init}"
        try:
            summary = train(
                run_config(preset, net, norm, init, data_dir), workdir, time.perf_counter()
            )
        except NonFiniteError as error:  # this is a result: the run's table ends here
            print(error, flush=True)
            continue
        if summary["exit_reason"] != "finished":
            raise KeyboardInterrupt


def run_config(preset: Preset, net: str, norm: str, init: str, data_dir: str | None) -> ConfigDict:
    """Returns the config of one run: momentum SGD at a constant rate, the same for all runs."""
    config = vgg(net, preset.data)
    config.steps = preset.steps
    config.model.norm, config.model.kernel_init = norm, init
    config.model.width, config.model.dropout = preset.width, 0.0
    if data_dir is not None:
        config.data.dir = data_dir
    config.data.batch_size = preset.batch_size
    config.optimizer.name = "sgd"
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.learning_rate = preset.learning_rate
    config.probe.every_steps = preset.probe_every
    config.log.every_steps = preset.log_every
    config.log.stuck_after_steps = 0  # the probes show it
    config.eval.every_steps = config.checkpoint.every_steps = preset.eval_every
    config.checkpoint.keep = 1
    return config


if __name__ == "__main__":
    run_command(main)
