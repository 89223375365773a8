"""Results as runs and experiments leave them, and their page read back."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import cv2

from vgg_jax.config import load_config

ROOT = Path(__file__).parents[2]
LAYERS = [f"conv{i}_1" for i in range(1, 6)]


def write_results(root: Path) -> None:
    """Two runs as the training loop stores them, one of them probed, and a table and a figure."""
    for seed in (0, 1):
        run = root / f"bn-seed{seed}"
        (run / "probes").mkdir(parents=True)
        spec = f"{ROOT}/configs/vgg16.py:cifar10,bn"
        config = load_config(spec, [f"--config.seed={seed}"])
        (run / "config.json").write_text(config.to_json_best_effort())
        lines = [
            {"step": step, "train/loss": math.exp(-step / 50 - seed / 9), "eval/top1": step / 200}
            for step in range(10, 101, 10)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run / "metrics.jsonl").write_text(text + '{"step": 110, "tra')
    summary = {
        "exit_reason": "finished",
        "metrics": {"train/loss": 0.125},
        "wall_seconds": 3725.0,
        "versions": {"jax": "9.8.7"},
        "devices": {"platform": "tpu", "kind": "v9", "count": 3, "processes": 1},
        "command": "python -m vgg_jax.train --config=configs/vgg16.py:cifar10,bn --x='<&>'",
    }
    (root / "bn-seed0" / "summary.json").write_text(json.dumps(summary))
    rows = ["net,seed,step,layer,depth,quantity,value"]
    rows += [
        f"D,0,{step},{layer},{depth},activation_grad_rms,{0.47 * 10.0 ** (-depth - step / 10)}"
        for step in (0, 10, 20)
        for depth, layer in enumerate(LAYERS)
    ]
    rows += [f"D,0,0,{layer},{d},dead_fraction,0.{d}" for d, layer in enumerate(LAYERS)]
    rows += [f"D,0,{step},all,0,loss,{2.5 - step / 10}" for step in (0, 10, 20)]
    (root / "bn-seed0" / "probes" / "gradients.csv").write_text("\n".join(rows) + "\n")
    (root / "table.csv").write_text("config,eval/top1_mean\nvgg16,0.123456789\n")
    (root / "notes.md").write_text("# Notes\n\n| a | b |\n| --- | ---: |\n| left | 1,234 |\n")
    cv2.imwrite(str(root / "curve.png"), cv2.UMat(20, 30, cv2.CV_8UC3).get())


class Reader(HTMLParser):
    """Collects cells of tables, and checks that every tag is closed in turn."""

    VOID = ("meta", "link", "img", "wbr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.links += [v for name, v in attributes if name in ("src", "href") and v]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attributes):
        pass  # <rect ... />

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader
