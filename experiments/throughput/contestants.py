"""The same network and step by this project, by plain Flax and by PyTorch, ready to be timed."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vgg_jax.models import build_model
from vgg_jax.models.variants import Stage, resolve_stages
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import TrainLoss, make_train_step
from vgg_jax.xla import NETWORK, Options, on_cpu


@dataclasses.dataclass(frozen=True)
class Workload:
    """One thing to time: net ("A", ...), norm ("none" or "batch"), image size, batch size."""

    net: str
    norm: str
    image_size: int
    batch_size: int
    dtype: str

    @property
    def head(self) -> tuple[int, int, int]:
        """Hidden sizes and classes."""
        return (4096, 4096, 1000) if self.image_size >= 224 else (512, 512, 10)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return resolve_stages(self.net, None)

    def images(self) -> np.ndarray:
        """Returns standard normal images, float32 NHWC."""
        shape = (self.batch_size, self.image_size, self.image_size, 3)
        return np.random.default_rng(0).standard_normal(shape, np.float32)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A compiled step.

    Attributes:
      run: runs it once and returns when it is done.
      compile_seconds: what the first call took beyond the work itself.
      peak_bytes: arguments, results and temporaries by the compiler's figures, or the allocator's
        high-water mark; None where neither can be had.
    """

    run: Callable[[], None]
    compile_seconds: float
    peak_bytes: int | None


def title(net: str, norm: str) -> str:
    """Returns a net's name, of its letter and its norm."""
    return net + (" + BN" if norm == "batch" else "")


def this_project(work: Workload, mode: str) -> Contestant:
    """Returns the model and the training step of vgg_jax."""
    config = {
        "variant": work.net,
        "norm": work.norm,
        "head": "imagenet" if work.image_size >= 224 else "cifar",
        "num_classes": work.head[-1],
    }
    model = build_model(config, image_size=work.image_size, compute_dtype=work.dtype)
    return _jax_contestant(model, work, mode, on_cpu(NETWORK))


class PlainFlax(nn.Module):
    """The net as a Flax user would write it, with the library's layers."""

    stages: tuple[Stage, ...]
    norm: str
    head: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict]:
        x = images.astype(self.dtype)
        for stage in self.stages:
            for spec in stage:
                x = nn.Conv(spec.channels, (spec.kernel, spec.kernel), dtype=self.dtype)(x)
                if self.norm == "batch":
                    x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)
                x = nn.relu(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(len(x), -1)
        for features in self.head[:-1]:
            x = nn.relu(nn.Dense(features, dtype=self.dtype)(x))
            x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(self.head[-1], dtype=self.dtype)(x).astype(jnp.float32), {}


def plain_flax(work: Workload, mode: str) -> Contestant:
    """Returns nn.Conv, nn.max_pool and the same training step around them."""
    model = PlainFlax(work.stages, work.norm, work.head, jnp.dtype(work.dtype))
    return _jax_contestant(model, work, mode, None)


def _jax_contestant(
    model: nn.Module, work: Workload, mode: str, options: Options | None
) -> Contestant:
    optimizer = optax.sgd(1e-4, 0.9)
    state = jax.jit(
        lambda: new_state(init_variables(model, 0, work.image_size), optimizer, with_ema=False)
    )()
    labels = jnp.zeros(work.batch_size, jnp.int32)
    batch = {"image": jnp.asarray(work.images()), "label": labels}

    if mode == "train":
        step = jax.jit(
            make_train_step(TrainLoss(model, seed=0), optimizer, lambda keys, images: images),
            donate_argnums=0,
            compiler_options=options,
        )
    else:

        def infer(state: Any, batch: dict) -> tuple[Any, jax.Array]:
            logits, _ = model.apply(state.eval_variables(), batch["image"], train=False)
            return state, logits

        # Inference returns the state unchanged, so donating it costs nothing.
        step = jax.jit(infer, donate_argnums=0, compiler_options=options)

    start = time.perf_counter()
    compiled = step.lower(state, batch).compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
    holder = [state]

    def run() -> None:
        holder[0], out = compiled(holder[0], batch)
        jax.block_until_ready((holder[0], out))

    return Contestant(run, seconds, peak)


def torch_eager(work: Workload, mode: str) -> Contestant:
    """Returns PyTorch's, channels last; bfloat16 by autocast."""
    return _torch_contestant(work, mode, compiled=False)


def torch_compiled(work: Workload, mode: str) -> Contestant:
    """Returns PyTorch's through torch.compile."""
    return _torch_contestant(work, mode, compiled=True)


def _torch_contestant(work: Workload, mode: str, *, compiled: bool) -> Contestant:
    import torch
    from torch import nn as tnn

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cudnn.benchmark = True  # choose by timing, as XLA does
    layers: list[tnn.Module] = []
    channels = 3
    for stage in work.stages:
        for spec in stage:
            layers.append(tnn.Conv2d(channels, spec.channels, spec.kernel, padding="same"))
            if work.norm == "batch":
                layers.append(tnn.BatchNorm2d(spec.channels))
            layers.append(tnn.ReLU(inplace=True))
            channels = spec.channels
        layers.append(tnn.MaxPool2d(2))
    layers.append(tnn.Flatten())
    features = channels * (work.image_size >> len(work.stages)) ** 2
    for hidden in work.head[:-1]:
        layers += [tnn.Linear(features, hidden), tnn.ReLU(inplace=True), tnn.Dropout(0.5)]
        features = hidden
    layers.append(tnn.Linear(features, work.head[-1]))
    net = tnn.Sequential(*layers).to(device, memory_format=torch.channels_last)
    net.train(mode == "train")
    images = torch.from_numpy(work.images().transpose(0, 3, 1, 2)).to(
        device, memory_format=torch.channels_last
    )
    labels = torch.zeros(work.batch_size, dtype=torch.long, device=device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    half = torch.autocast(device, torch.bfloat16, enabled=work.dtype == "bfloat16")
    if compiled:
        # Without it nets count as recompilations of one another, and after eight they run eagerly.
        torch.compiler.reset()
    forward = torch.compile(net) if compiled else net

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with half:
            loss = tnn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode(), half:
            forward(images)

    def run() -> None:
        (train if mode == "train" else infer)()
        if device == "cuda":
            torch.cuda.synchronize()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = [_timed(run) for _ in range(2)]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return Contestant(run, max(0.0, seconds[0] - seconds[1]), peak)


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
