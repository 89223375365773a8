"""A trained run as `Weights`, to evaluate, to predict with, to keep without its checkpoints."""

from contextlib import closing
from pathlib import Path

import jax
import numpy as np

from vgg_jax.data.crops import eval_resize
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.data.source import Source
from vgg_jax.data.sources import data_name, open_source
from vgg_jax.errors import UserError
from vgg_jax.runs.directory import CHECKPOINTS, CONFIG_FILE, read_config
from vgg_jax.training.checkpoints import Checkpoints
from vgg_jax.training.parallel import make_parallel
from vgg_jax.training.setup import from_config
from vgg_jax.weights.store import Weights


def load_run(workdir: Path, source: Source | None = None) -> tuple[Weights, Source, str]:
    """Reads the newest checkpoint of a run directory.

    Args:
      workdir: the run directory.
      source: its evaluation data; None opens what the run's config names.

    Returns:
      The weights that the run is evaluated with (the averaged ones, if it keeps them), its
      evaluation data, and that data's name.

    Raises:
      UserError: no run is there, it has no checkpoint that can be read, or its data is missing.
    """
    if not (workdir / CONFIG_FILE).is_file():
        raise UserError(f"no run in {workdir}: give the --workdir of vgg_jax.train")
    config = read_config(workdir)
    data = config.data
    model, _, init_fn = from_config(config)

    folder, restored = workdir / CHECKPOINTS, None
    if folder.is_dir():
        parallel = make_parallel("jit", devices=jax.devices()[:1])
        with closing(Checkpoints(folder)) as checkpoints:
            restored = checkpoints.restore(parallel.abstract(init_fn))
    if restored is None:
        raise UserError(f"no checkpoints in {workdir}: train it first")
    state, _ = restored

    source = source or open_source(data, data.eval_split)
    preprocessing = Preprocessing(
        resize=eval_resize(source, data),
        crop=data.image_size,
        mean=data.mean,
        std=data.std,
        channel_order=data.channel_order,
    )
    origin = {"layout": "run", "file": workdir.resolve().name, "step": int(np.asarray(state.step))}
    names = tuple(source.class_names)
    names += tuple(map(str, range(len(names), model.num_classes)))  # classes without an example
    weights = Weights(model, state.eval_variables(), preprocessing, names, origin)
    return weights, source, f"{data_name(data)} {data.eval_split}".rstrip()
