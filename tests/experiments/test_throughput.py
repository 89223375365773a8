"""The contestants of the throughput benchmark compute the same network."""

import dataclasses
import json
import platform

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.throughput import page_faults, run
from experiments.throughput.contestants import PlainFlax, Workload
from experiments.throughput.multiplications import multiplications
from tests.experiments.freed_memory import faults_of_a_block
from vgg_jax.models import VGG
from vgg_jax.models.variants import Stage, resolve_stages
from vgg_jax.ops import conv

STAGES = ("3-4", "3-5 x2")


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_plain_flax_is_the_same_network(norm: str) -> None:
    """Initialised alike and given the same parameters, the logits are equal."""
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    ours = VGG(
        stages=STAGES, num_classes=3, head="cifar", head_features=(6, 7), head_window=2, norm=norm
    )
    plain = PlainFlax(resolve_stages("", STAGES), norm, (6, 7, 3), jnp.float32)
    variables = jax.jit(ours.init)(jax.random.key(1), images)
    layers = variables["params"]
    convs = [name for name in layers if name.startswith("conv")]
    params = {f"Conv_{i}": layers[name] for i, name in enumerate(convs)}
    for i, name in enumerate(("fc6", "fc7", "fc8")):
        kernel = layers[name]["kernel"]
        params[f"Dense_{i}"] = layers[name] | {"kernel": kernel.reshape(-1, kernel.shape[-1])}
    statistics = {}
    if norm == "batch":
        for i, name in enumerate(convs):
            params[f"BatchNorm_{i}"] = layers[name.replace("conv", "bn")]
            statistics[f"BatchNorm_{i}"] = variables["batch_stats"][name.replace("conv", "bn")]
    desired, _ = ours.apply(variables, images)
    actual, _ = plain.apply({"params": params, "batch_stats": statistics}, images, train=False)
    np.testing.assert_allclose(actual, desired, 1e-5, 1e-5)


def test_a_product_counts_for_what_it_is() -> None:
    """Net D at 224 pixels: 30.94 GFLOP, twice its 15.47 GMAC."""
    flops = run.flops_per_image(Workload("D", "none", 224, 1, "float32"))
    assert flops == pytest.approx(30.94e9, rel=1e-3)


def test_multiplications_of_wide_layers_are_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Net D at 224 pixels, by Winograd's algorithm all but the layers of few channels."""
    work = Workload("D", "none", 224, 8, "float32")
    inference = multiplications(work, "infer")
    assert 0.3 * 15.47e9 < inference / 8 < 0.55 * 15.47e9
    assert 2 * inference < multiplications(work, "train") < 3 * inference
    for choice in ("along_images", "along_kernel"):
        monkeypatch.setattr(conv, choice, lambda images, kernel: conv.library)
    assert multiplications(work, "infer") == pytest.approx(8 * 15.47e9, rel=1e-3)


@dataclasses.dataclass(frozen=True)
class TwoLayers:
    """A workload of one stage at 2x2 pixels, with five classes."""

    names: tuple[str, ...]
    batch_size: int
    image_size: int = 2
    head: tuple[int, ...] = (5,)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return resolve_stages("", self.names)


@pytest.mark.parametrize(
    ("formulation", "kernel", "pairs"),
    [
        (conv.library, 3, 36),
        (conv.positions, 3, 16),
        (conv.taps, 3, 16),
        (conv.taps, 1, 4),
        (conv.winograd, 3, 36),
    ],
)
def test_multiplications_of_a_2x2_map(
    formulation: conv.Formulation, kernel: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros around the map are multiplied, or are not."""
    for choice in ("along_images", "along_kernel"):
        monkeypatch.setattr(conv, choice, lambda images, kernel: formulation)
    one = TwoLayers((f"{kernel}-4 x2",), batch_size=7)
    assert multiplications(one, "infer") == 7 * (pairs * (3 * 4 + 4 * 4) + 4 * 5)
    # The first layer's images ask for no gradient.
    wanted = 7 * (pairs * (2 * 3 * 4 + 3 * 4 * 4) + 3 * 4 * 5)
    assert multiplications(one, "train") == wanted


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")


@needs_glibc
def test_kept_memory_has_no_page_faults() -> None:
    """By default every page of a block that was freed before faults again."""
    default, kept = (
        page_faults.in_new_process(variables, faults_of_a_block, 2**26)
        for variables in page_faults.ENVIRONMENTS.values()
    )
    assert default >= 2**26 // 2**21  # the largest pages are 2 MiB
    assert kept < default / 10


@needs_glibc
def test_times_steps_in_both_environments_and_redraws(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(page_faults, "CONTESTANTS", {"vgg_jax": page_faults.this_project})
    assert page_faults.main(["--preset=smallest", f"--out={tmp_path}"]) == 0
    out = tmp_path / "page_faults"
    rows = json.loads((out / "page_faults.json").read_text())
    assert [row["environment"] for row in rows] == ["default", "kept"]
    assert all(row["milliseconds"] > 0 and row["peak_bytes"] > 2**26 for row in rows)
    table = (out / "table.md").read_text()
    assert table.count("| A, infer 32, batch 2 | vgg_jax |") == 1
    (out / "table.md").unlink()
    assert page_faults.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (out / "table.md").read_text() == table


def test_the_table_of_page_faults_has_medians_and_their_ratio() -> None:
    rows = [
        {"workload": "w", "contestant": "c", "environment": environment}
        | {"milliseconds": milliseconds, "faults": faults, "peak_bytes": 1.5e9}
        for environment, faults, times in (("default", 2000, (3, 9, 4)), ("kept", 0, (2, 1, 7)))
        for milliseconds in times
    ]
    line = page_faults.table(rows).splitlines()[2]
    assert line == "| w | c | 4 | 2 | 2.00 | 2,000 | 0 | 1.50 | 1.50 |"
