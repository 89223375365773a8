"""A model of how training scales: counted bytes, published speeds and one assumption.

A step takes compute / (assumed share of the peak) + bytes sent / link speed; nothing overlaps, so
the efficiency is a lower bound of what the links allow. Nothing was measured on such machines.
"""

from dataclasses import dataclass

from vgg_jax.runs.tables import markdown

FLOP_AN_IMAGE = 3 * 2 * 15.470e9  # VGG-16 at 224 pixels, forward and backward
SHARE_OF_PEAK = 0.4  # assumed


@dataclass(frozen=True)
class Machine:
    """Published peak arithmetic (FLOP/s) and link speed (bytes per second, one direction).

    The program was compiled for eight devices. In plain data parallel training more devices share
    the same arrays, and only the ring is longer.
    """

    name: str
    peak: float
    link: float
    program: str
    devices: int = 8
    images: int = 32  # per device


# In one direction: 8 and 16 GT/s a lane, 16 lanes, 128 of 130 bits (PCI Express 3.0 and 4.0).
PCIE_3, PCIE_4 = 15.75e9, 31.5e9

MACHINES = [
    # NVIDIA A100 data sheet (nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/
    # nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf): TF32 156, BF16 312 TFLOP/s; NVLink 600,
    # PCIe Gen4 64 GB/s, both directions together.
    Machine("8 A100, TF32, plain", 156e12, 300e9, "data8"),
    Machine("8 A100, TF32, fc split over 8", 156e12, 300e9, "model8"),
    Machine("8 A100, BF16, plain", 312e12, 300e9, "data8_bfloat16"),
    Machine("8 A100 on PCIe, TF32, plain", 156e12, PCIE_4, "data8"),
    Machine("8 A100 on PCIe, TF32, fc split over 8", 156e12, PCIE_4, "model8"),
    Machine("8 A100 on PCIe, BF16, plain", 312e12, PCIE_4, "data8_bfloat16"),
    # docs.cloud.google.com/tpu/docs/v5e: one core a chip, BF16 197 TFLOP/s; 400 GB/s a chip to its
    # four neighbours, both directions together (as its all-reduce figure, 51.2 TB/s for 256 chips).
    Machine("256 TPU v5e, BF16, plain", 197e12, 200e9, "data8_bfloat16", devices=256),
]


def sent(row: dict) -> float:
    """Returns the bytes that each device sends for one collective operation in a ring."""
    share = (row["group"] - 1) / row["group"]
    return {"all-reduce": 2 * share, "collective-permute": 1}.get(row["kind"], share) * row["bytes"]


def table(results: dict[str, dict]) -> str:
    """Returns the modelled efficiency of every machine whose program was compiled."""
    head = ["machine", "images a device", "compute", "communication", "efficiency"]
    lines = []
    for machine in MACHINES:
        if machine.program not in results:
            continue
        compute = machine.images * FLOP_AN_IMAGE / (SHARE_OF_PEAK * machine.peak)
        rows = results[machine.program]["collectives"]
        longer = machine.devices // 8
        size = sum(sent(row | {"group": row["group"] * longer}) for row in rows)
        communication = size / machine.link
        times = [f"{seconds * 1e3:.1f} ms" for seconds in (compute, communication)]
        efficiency = f"{compute / (compute + communication):.0%}"
        lines.append([machine.name, machine.images, *times, efficiency])
    return markdown(head, lines, "lrrrr") + "\n" + paper_check()


def paper_check() -> str:
    """Returns the model beside the paper's 3.75 times on four GPUs (section 3.3).

    370,000 iterations of 256 images took 2 to 3 weeks on four Titan Black, on PCIe 3.0 x16: the
    compute time follows, the communication is the model's.
    """
    gradient, iterations = 553.4e6, 370_000
    ways = {"a ring": 2 * 3 / 4 * gradient, "one GPU that gathers and returns": 2 * 3 * gradient}
    lines = []
    for way, size in ways.items():
        speedups = []
        for weeks in (2, 3):
            step = weeks * 7 * 86400 / iterations
            speedups.append(4 * (step - size / PCIE_3) / step)
        lines.append([f"all-reduce by {way}", *(f"{speedup:.2f}" for speedup in speedups), "3.75"])
    return markdown(["4 Titan Black", "2 weeks", "3 weeks", "paper"], lines, "lrrr")
