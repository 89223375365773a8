"""Small kernels in stacks against large ones: cost, what a unit sees, and accuracy.

    python -m experiments.receptive_field.run [--preset=quick|full|gpu] [--out=DIR]
        [--data_dir=FILE.npz] [--weights=FILE --photos=DIR]
    python -m experiments.receptive_field.run --redraw [--preset=NAME] [--out=DIR]

quick: digits and very narrow nets. full: CIFAR-10 and an eighth of the width, on a CPU. gpu: full
width. `--data_dir` holds CIFAR-10, as `x_train`, `y_train`, `x_test`, `y_test`; without it TFDS's
copy is read. `--weights` is VGG-19 for ImageNet and `--photos` the folder of photos.csv: without
them the trained VGG-19 is left out. What is stored in --out is not measured again. `--redraw` only
writes the tables and the figure again.
"""

from pathlib import Path

from experiments.receptive_field import tables
from experiments.receptive_field.presets import PAIRS, PRESETS, Preset
from vgg_jax.cli import run_command
from vgg_jax.errors import UserError
from vgg_jax.runs.experiments import ExperimentParser, measured_once, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--data_dir", help="CIFAR-10 as an .npz file; default: TFDS's copy")
    parser.add_argument("--weights", type=Path, help="VGG-19 for ImageNet, .safetensors")
    parser.add_argument("--photos", type=Path, help="folder of photos.csv")
    arguments = parser.parse_args(argv)
    out, preset = arguments.out, PRESETS[arguments.preset]
    if (arguments.weights is None) != (arguments.photos is None):
        raise UserError("--weights and --photos go together: give both, or neither")
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        measure_maps(preset, out, arguments.weights, arguments.photos)
        record.write()
        train_pairs(preset, out, None if preset.data == "digits" else arguments.data_dir)
        record.write()
    tables.draw(stored(out / tables.TRAINING).parent)
    return 0


def measure_maps(preset: Preset, out: Path, weights: Path | None, photos: Path | None) -> None:
    """Counts the stacks and measures the maps that are not stored yet."""
    from experiments.receptive_field import maps  # starts JAX

    enable_compilation_cache()
    write_table(out / tables.COSTS, maps.stack_costs(), tables.COST_COLUMNS)
    if not (out / tables.START).exists():
        write_table(out / tables.START, maps.at_initialisation(preset), tables.START_COLUMNS)
    if weights is None or photos is None:
        print("without --weights and --photos: no trained VGG-19", flush=True)
    elif not (out / tables.VGG19).exists():
        from experiments.photos_evaluation.run import open_photos
        from vgg_jax.weights.loading import load_weights

        opened = open_photos(photos, preset.seeds * preset.photos)
        rows = maps.of_vgg19(load_weights(weights), opened, preset)
        write_table(out / tables.VGG19, rows, tables.VGG19_COLUMNS)


def train_pairs(preset: Preset, out: Path, data_dir: str | None) -> None:
    """Trains what the table in `out` lacks, and writes it after every run."""
    from experiments.receptive_field import training

    path = out / tables.TRAINING
    rows = table_rows(read_table(path)) if path.exists() else []
    done = {(row["pair"], row["budget"], row["seed"]) for row in rows}
    for name in preset.pairs:
        pair = PAIRS[name]
        budgets = ("first", *pair.budgets)
        wanted = {(name, budget, seed) for budget in budgets for seed in range(preset.seeds)}
        if wanted <= done:
            continue

        def network(stages: tuple[str, ...], width: float, pair=pair) -> training.Network:
            config = training.network_config(pair, stages, width, preset, data_dir)
            return training.Network(config, preset)

        first, second = (network(stages, preset.width) for stages in pair.stages)
        ratio = measured_once(
            out / tables.ratio_file(name),
            lambda first=first, second=second: training.time_ratio(first, second, preset),
        )["ratio"]
        for budget in budgets:
            contestant, steps = (first if budget == "first" else second), preset.steps
            if budget == "equal parameters":
                target = training.parameters(first.model, preset)
                width = training.same_parameters(pair, pair.stages[1], target, preset, data_dir)
                contestant = network(pair.stages[1], width)
            if budget == "equal time":
                steps = round(steps * ratio)
            for seed in range(preset.seeds):
                if (name, budget, seed) in done:
                    continue
                row = {"pair": name, "net": pair.names[budget != "first"], "budget": budget}
                rows.append(row | contestant.describe() | contestant.train(seed, steps))
                write_table(path, rows, tables.TRAINING_COLUMNS)
                print(f"{name}, {budget}, seed {seed}: {rows[-1]['top1']:.1%}", flush=True)


if __name__ == "__main__":
    run_command(main)
