"""The cost of a probe: times a training step and a probe of the same state and batch in turn."""

import time
from collections.abc import Iterator, Mapping

import jax
from ml_collections import ConfigDict

from vgg_jax.runs.tables import markdown
from vgg_jax.training.probing import make_probe
from vgg_jax.training.setup import build, first_state

REPETITIONS = 7  # the median counts
EVERY_STEPS = (10, 100)  # intervals between probes that the cost is given for


def overhead_tables(configs: Mapping[str, ConfigDict]) -> Iterator[str]:
    """Yields a Markdown table of seconds per step and per probe, a line longer after each run.

    Args:
      configs: {description: config of a run}.
    """
    head = ["run", "a step, s", "a probe, s", "probe / step"]
    head += [f"added, probe every {every} steps" for every in EVERY_STEPS]
    lines = []
    for name, config in configs.items():
        step, probe = seconds(config)
        added = [f"{probe / (every * step):.1%}" for every in EVERY_STEPS]
        lines.append([name, f"{step:.3f}", f"{probe:.3f}", f"{probe / step:.2f}", *added])
        yield markdown(head, lines)


def seconds(config: ConfigDict) -> tuple[float, float]:
    """Returns median seconds of a compiled training step and of a compiled probe."""
    run = build(config)
    state = first_state(run, config)
    probe = make_probe(config, run)
    steps, probes = [], []
    for number in range(REPETITIONS + 1):  # the first ones compile
        batch = run.parallel.put(run.train_data.batch(number))
        start = time.perf_counter()
        jax.block_until_ready(probe(state, batch))
        between = time.perf_counter()
        state, _ = run.advance(state, batch)
        jax.block_until_ready(state)
        probes.append(between - start)
        steps.append(time.perf_counter() - between)
    return _median(steps[1:]), _median(probes[1:])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
