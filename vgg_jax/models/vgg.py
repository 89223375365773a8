"""One Linen module for the whole VGG family."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models.fields import ACTIVATIONS, HEADS, POOLINGS, check_fields
from vgg_jax.models.initializers import get_initializer
from vgg_jax.models.layers import (
    BatchNorm,
    Conv,
    Dropout,
    WindowDense,
    guided_relu,
    local_response_norm,
)
from vgg_jax.models.variants import Stage, resolve_stages
from vgg_jax.ops.pool import relu_max_pool


@dataclasses.dataclass
class _Recorder:
    """Collects endpoints by name, adding the perturbation of that name if there is one."""

    perturbations: Mapping[str, jax.Array]
    endpoints: dict[str, jax.Array] = dataclasses.field(default_factory=dict)

    def __call__(self, name: str, x: jax.Array) -> jax.Array:
        if name in self.perturbations:
            x = x + self.perturbations[name].astype(x.dtype)
        self.endpoints[name] = x
        return x


class VGG(nn.Module):
    """A network of Simonyan & Zisserman (2014), arXiv 1409.1556, or a plain relative of it.

    Layers are named by stage and place: parameters `conv3_2/kernel` (HWIO), `conv3_2/bias`,
    `bn3_2/scale`, `bn3_2/bias`, `fc6/kernel` (window, window, in, out), ...; statistics
    `bn3_2/mean`, `bn3_2/var`. The classifier is `fc8` whatever the head, the hidden layers before
    it `fc6` and `fc7`. Every convolution has a bias, also before batch normalisation.

    Attributes:
      variant: a name of `variants.KNOWN_VARIANTS` or `plain-N`; not used where `stages` is given.
      stages: own stages in the notation of `variants`, e.g. ("3-64 x2", "3-128"), or None.
      num_classes: outputs of `fc8`.
      norm: "none" or "batch" (after every convolution, before the activation).
      norm_momentum: of the running statistics, Flax's convention: running = momentum * running +
        (1 - momentum) * batch.
      norm_epsilon: added to the variance.
      norm_group: None normalises with the whole batch (under `axis_name`, over all devices);
        k with each k consecutive examples.
      norm_frozen: batch normalisations, such as "bn1_1", that use their running statistics in
        training too and leave them as they are.
      axis_name: the mapped axis (pmap) that the batch is spread over, or None.
      head_sharding: how the input of the first fully connected layer is to be spread over devices,
        or None to leave that to the compiler.
      head: "imagenet" (hidden 4096-4096, dropout after each), "cifar" (512-512, dropout before
        each) or "linear" (no hidden layer, no dropout).
      head_features: hidden sizes instead of the head's own, at most two, not scaled by `width`.
      head_window: side of the map that the first layer of the head covers: image_size / 32 for
        five stages. A larger image gives a map of scores.
      dropout: probability of zeroing, in effect a multiple of 1/256.
      kernel_init: name in `initializers.INITIALIZERS`, for convolutions and fully connected
        layers alike. Biases start at zero.
      activation: "relu", "tanh", "sigmoid" or "linear" (none: for theory).
      guided: gradients pass every ReLU as in `layers.guided_relu`: for explanations alone.
      pooling: "max", "average" (2x2, stride 2) or "none" (stride 2 alone). An odd last row or
        column is dropped.
      width: multiplies the channels of every convolution and the head's own hidden sizes.
      residual: adds an identity shortcut around every convolution of a stage but the first,
        before the activation.
      remat: recomputes each stage in the backward pass instead of keeping its activations (on a
        CPU, XLA keeps them all the same).
      matmul_precision: how the factors of a product are rounded on their way into matrix units:
        "float32" (not at all), "tensorfloat32" (GPU) or "bfloat16" (TPU). A CPU never rounds them.
      dtype: of the computation.
      param_dtype: of the parameters; running statistics are float32 or wider.
    """

    variant: str = "D"
    stages: tuple[str, ...] | None = None
    num_classes: int = 1000
    norm: str = "none"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    norm_group: int | None = None
    norm_frozen: tuple[str, ...] = ()
    axis_name: str | None = None
    head_sharding: jax.sharding.Sharding | None = None
    head: str = "imagenet"
    head_features: tuple[int, ...] | None = None
    head_window: int = 7
    dropout: float = 0.5
    kernel_init: str = "he_fan_in"
    activation: str = "relu"
    guided: bool = False
    pooling: str = "max"
    width: float = 1.0
    residual: bool = False
    remat: bool = False
    matmul_precision: str = "float32"
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        perturbations: Mapping[str, jax.Array] | None = None,
        conv_only: bool = False,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Classifies images.

        Args:
          images: float (N, H, W, 3), preprocessed; sides of at least `smallest_image`.
          train: batch statistics instead of running ones (collection `batch_stats` must be
            mutable) and dropout (needs rng `dropout`).
          perturbations: arrays added to the endpoints of those names as they are computed, so
            that a gradient with respect to a zero perturbation is the gradient with respect to
            that endpoint.
          conv_only: leaves the head out, so that images may be as small as one position of the last
            map, and returns that map (N, h, w, channels) instead of logits.

        Returns:
          Logits (N, num_classes), float32 or wider: the spatial mean of the score map; and every
          intermediate by name, in the compute dtype (order: see `layer_names`). For each
          convolution `conv1_1` (its output, bias included), `bn1_1` (with norm "batch"),
          `add1_2` (with `residual`), `relu1_1` (the activation, whichever it is), `lrn1_1` (in
          A-LRN); for each stage `pool1`; then `fc6`, `relu6`, `fc7`, `relu7` and `fc8`, each
          (N, h, w, features), where h = w = 1 for images of the head's size.

        Raises:
          UserError: the images are too small, a batch is not a multiple of `norm_group`, or a
            perturbation names no endpoint.
        """
        _check_shape(self, images.shape, conv_only)
        perturbations = perturbations or {}
        run_stage = VGG._stage
        if self.remat:
            run_stage = nn.remat(run_stage, static_argnums=(2, 4))

        x = images.astype(self.dtype)
        endpoints: dict[str, jax.Array] = {}
        with jax.default_matmul_precision(self.matmul_precision):
            for index in range(1, len(self.conv_stages) + 1):
                x, recorded = run_stage(self, x, index, perturbations, train)
                endpoints |= recorded
            if not conv_only:
                x, recorded = self._head(x, perturbations, train)
                endpoints |= recorded

        for name in perturbations:
            if name not in endpoints:
                raise unknown_name("endpoint", name, endpoints)
        return x, endpoints

    def _stage(
        self, x: jax.Array, index: int, perturbations: Mapping[str, jax.Array], train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Runs the convolutions and the pooling of stage `index`, counted from 1."""
        record = _Recorder(perturbations)
        activation = guided_relu if self.guided else ACTIVATIONS[self.activation]
        kernel_init = get_initializer(self.kernel_init, self.activation)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for i, spec in enumerate(self.conv_stages[index - 1], 1):
            place = f"{index}_{i}"
            shortcut = x
            by_batch = train and self.norm == "batch" and f"bn{place}" not in self.norm_frozen
            conv = Conv(
                spec.channels,
                spec.kernel,
                kernel_init,
                before_norm=by_batch,
                name=f"conv{place}",
                **dtypes,
            )
            x = record(f"conv{place}", conv(x))
            if self.norm == "batch":
                bn = BatchNorm(
                    momentum=self.norm_momentum,
                    epsilon=self.norm_epsilon,
                    group=self.norm_group,
                    axis_name=self.axis_name,
                    name=f"bn{place}",
                    **dtypes,
                )
                x = record(f"bn{place}", bn(x, train=by_batch))
            if self.residual and i > 1:
                x = record(f"add{place}", x + shortcut)
            preactivation = x
            x = record(f"relu{place}", activation(x))
            if spec.lrn:
                x = record(f"lrn{place}", local_response_norm(x))
        relu_max = (activation, self.pooling) == (nn.relu, "max")
        fused = relu_max and not spec.lrn and not perturbations
        x = relu_max_pool(preactivation) if fused else POOLINGS[self.pooling](x)
        return record(f"pool{index}", x), record.endpoints

    def _head(
        self, x: jax.Array, perturbations: Mapping[str, jax.Array], train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps the last pool (N, h, w, C) to logits (N, num_classes)."""
        record = _Recorder(perturbations)
        activation = guided_relu if self.guided else ACTIVATIONS[self.activation]
        kernel_init = get_initializer(self.kernel_init, self.activation)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dropout_before = HEADS[self.head].dropout_before
        window = self.head_window
        if self.head_sharding is not None:
            x = jax.lax.with_sharding_constraint(x, self.head_sharding)
        for name, features in self.head_layers.items():
            hidden = name != "fc8"
            dropout = Dropout(self.dropout, self.axis_name, name=name.replace("fc", "dropout"))
            if hidden and dropout_before:
                x = dropout(x, train=train)
            dense = WindowDense(features, window, kernel_init, name=name, **dtypes)
            x = record(name, dense(x))
            if hidden:
                x = record(name.replace("fc", "relu"), activation(x))
                if not dropout_before:
                    x = dropout(x, train=train)
            window = 1
        wide = x.astype(jnp.promote_types(self.dtype, jnp.float32))
        return wide.mean((1, 2)), record.endpoints

    @property
    def conv_stages(self) -> tuple[Stage, ...]:
        """The convolutions of each stage, with `width` applied."""
        return tuple(
            tuple(dataclasses.replace(conv, channels=self._scaled(conv.channels)) for conv in stage)
            for stage in resolve_stages(self.variant, self.stages)
        )

    @property
    def head_layers(self) -> dict[str, int]:
        """Name and features of the fully connected layers, input to output."""
        hidden = self.head_features
        if hidden is None:
            hidden = tuple(map(self._scaled, HEADS[self.head].hidden))
        return dict(zip(("fc6", "fc7"), hidden, strict=False)) | {"fc8": self.num_classes}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers with weights, input to output: conv1_1, ..., fc8."""
        convs = (
            f"conv{s}_{i}"
            for s, stage in enumerate(self.conv_stages, 1)
            for i in range(1, len(stage) + 1)
        )
        return (*convs, *self.head_layers)

    @property
    def preactivations(self) -> dict[str, str]:
        """For each layer with weights, the endpoint that its activation is applied to."""
        names = {name: name for name in self.layer_names}
        for name in names:
            place = name.removeprefix("conv")
            if place != name and self.norm == "batch":
                names[name] = f"bn{place}"
            if place != name and self.residual and not place.endswith("_1"):
                names[name] = f"add{place}"
        return names

    @property
    def smallest_image(self) -> int:
        """Side in pixels of the smallest square image that the head can take."""
        return self.head_window * 2 ** len(self.conv_stages)

    def _scaled(self, features: int) -> int:
        return max(1, round(features * self.width))

    def __post_init__(self) -> None:
        """Raises UserError for fields that `check_fields` refuses."""
        check_fields(self)
        super().__post_init__()


def _check_shape(model: VGG, shape: tuple[int, ...], conv_only: bool) -> None:
    """Raises UserError if images are too small, and says which field would make them fit."""
    window, stride = 1 if conv_only else model.head_window, 2 ** len(model.conv_stages)
    side = min(shape[1:3]) if len(shape) == 4 else 0
    if side < window * stride:
        what = "the convolutions" if conv_only else f"head_window={window}"
        fits = f"; for these images set head_window={side // stride}" if side >= stride else ""
        raise UserError(
            f"images of shape {shape} are too small for {what}: the network takes\n"
            f"(N, H, W, 3) with H and W of at least {window * stride}{fits}"
        )
