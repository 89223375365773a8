"""The closed forms against published numbers, and against networks wide enough to obey them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.models.fields import ACTIVATIONS
from vgg_jax.models.initializers import get_initializer
from vgg_jax.models.variants import parse_stage, resolve_stages
from vgg_jax.probes.gradients import layer_scales
from vgg_jax.probes.theory import (
    activation_moments,
    batch_norm_growth,
    predict_signals,
    relu_correlation,
    relu_gradient_correlation,
    weight_variance,
)


def factors(net: str, init: str, **options) -> tuple[float, float]:
    prediction = predict_signals(resolve_stages(net, None), init, **options)
    return prediction.forward, prediction.backward


def test_he_2015_ten_layers_at_std_001():
    """He et al. (2015), section 2.2: 1/(5.9 x 4.2^2 x 2.9^2 x 2.1^4) of what their own start gives.

    From exact standard deviations it is 1/16,729.
    """
    assert 1 / factors("B", "paper")[1] == pytest.approx(16729, rel=1e-4)


@pytest.mark.parametrize(
    ("net", "init", "forward", "backward"),
    [
        ("A", "paper", 5.19e-4, 1.47e-3),
        ("A", "paper_variance", 5.19e3, 1.47e4),
        ("C", "paper", 6.12e-8, 1.73e-7),
        ("D", "paper", 1.65e-6, 4.67e-6),
        ("E", "paper", 1.29e-7, 3.66e-7),
        ("E", "glorot_normal", 0.0030, 0.0085),
        ("D", "lecun", 2**-6, 2**-6 * 8**0.5),
        ("D", "he_fan_in", 1, 8**0.5),  # 2.83
        ("D", "he_fan_out", 8**-0.5, 1),
        ("D", "orthogonal", 1, 8**0.5),
    ],
)
def test_end_to_end_factors(net, init, forward, backward):
    assert factors(net, init) == pytest.approx((forward, backward), rel=3e-3)


def test_one_by_one_layers_make_c_27_times_worse_than_d():
    assert factors("D", "paper")[1] / factors("C", "paper")[1] == pytest.approx(27)
    # Padding takes less from 1x1 windows than from 3x3 ones, the more so on small maps.
    small, large = (
        factors("D", "paper", image_size=side, pooling="none")[1]
        / factors("C", "paper", image_size=side, pooling="none")[1]
        for side in (32, 224)
    )
    assert 15 < small < large < 27


@pytest.mark.parametrize(
    "init",
    [
        "he_fan_in",
        "he_fan_out",
        "glorot_normal",
        "lecun",
        "orthogonal",
        "torchvision",
        "chengyangfu",
    ],
)
@pytest.mark.parametrize("shape", [(3, 64, 32), (1, 16, 48)])
def test_weight_variance_is_that_of_the_initialiser(init, shape):
    kernel, inputs, outputs = shape
    drawn = get_initializer(init)(jax.random.key(0), (kernel, kernel, inputs, outputs), jnp.float32)
    expected = weight_variance(init, kernel, inputs, outputs)
    assert float(jnp.var(drawn)) == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("pooling", [None, "max", "average"])
def test_moments_against_sampling(activation, pooling):
    q = 1.7
    function = ACTIVATIONS[activation]
    z = q**0.5 * jax.random.normal(jax.random.key(1), (200_000, 4))

    def pooled(z):
        x = function(z)
        return {"max": x.max(-1), "average": x.mean(-1), None: x[..., 0]}[pooling]

    x, slopes = pooled(z), jax.grad(lambda z: pooled(z).sum())(z)
    slope = jnp.mean(slopes**2) * (4 if pooling is None else 1)
    moments = activation_moments(activation, np.array(q), pooling)
    assert float(moments.mean) == pytest.approx(float(x.mean()), abs=0.01)
    assert float(moments.square) == pytest.approx(float(jnp.mean(x**2)), rel=0.02)
    assert float(moments.slope) == pytest.approx(float(slope), rel=0.02)


@pytest.mark.parametrize(
    ("samples", "published"),  # facts: numpy, width 384, nine-layer slope, two seeds each
    [(256, (1.209, 1.213)), (32, (1.229, 1.235)), (8, (1.327, 1.355))],
)
def test_batch_norm_growth_of_finite_batches(samples, published):
    assert batch_norm_growth(samples) == pytest.approx(np.mean(published), rel=5e-3)


def test_batch_norm_growth_of_infinite_batches():
    assert batch_norm_growth() == pytest.approx(1.2112, abs=1e-4)
    assert batch_norm_growth() ** 2 == pytest.approx(np.pi / (np.pi - 1))
    assert batch_norm_growth(10**7) == pytest.approx(batch_norm_growth(), rel=1e-6)
    # The same from moments; A has 7 gaps between layers of which the widths give 512 / 64.
    equal = (parse_stage("3-64 x8"),)
    assert predict_signals(equal, "paper", norm="batch").backward == pytest.approx(
        batch_norm_growth() ** 7, rel=1e-3
    )
    with pytest.raises(ValueError, match="infinite"):
        batch_norm_growth(3)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.3, 0.95])
def test_relu_maps_against_sampling(correlation):
    u, v = np.random.default_rng(0).standard_normal((2, 400_000))
    w = correlation * u + (1 - correlation**2) ** 0.5 * v
    outputs = np.mean(np.maximum(u, 0) * np.maximum(w, 0)) / 0.5
    assert relu_correlation(correlation) == pytest.approx(outputs, abs=0.01)
    both = np.mean((u > 0) & (w > 0)) / 0.5
    assert relu_gradient_correlation(correlation) == pytest.approx(both, abs=0.01)


def test_what_has_no_theory_is_refused():
    with pytest.raises(UserError, match="A-LRN"):
        predict_signals(resolve_stages("A-LRN", None), "paper")
    with pytest.raises(UserError, match="average"):
        predict_signals(resolve_stages("A", None), "paper", pooling="avg")
    with pytest.raises(UserError, match="lecun"):
        predict_signals(resolve_stages("A", None), "delta_orthogonal")


# --- Wide networks ------------------------------------------------------------------------------

WIDTH, DEPTH, SETTLED = 256, 14, 7


@pytest.fixture(scope="module")
def wide():
    """Scales in stacks of convolutions, over seeds: the network of `stages` on noise."""

    def measure(batch: int, size: int, seeds: int, **fields) -> tuple[np.ndarray, np.ndarray]:
        model = VGG(
            head="linear",
            num_classes=10,
            pooling="none",
            head_window=size >> len(fields["stages"]),
            **fields,
        )
        names = list(model.preactivations.values())[:-1]

        @jax.jit
        def scales(key):
            keys = jax.random.split(key, 3)
            images = jax.random.normal(keys[0], (batch, size, size, 3))
            labels = jax.random.randint(keys[1], (batch,), 0, 10)
            variables = model.init(keys[2], images)

            def forward(zeros):
                (logits, endpoints), _ = model.apply(
                    variables, images, train=True, perturbations=zeros, mutable=["batch_stats"]
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), endpoints

            return layer_scales(forward, names)

        drawn = [jax.device_get(scales(jax.random.key(seed))) for seed in range(seeds)]
        values, gradients = (
            np.array([[scales[name] for name in names] for scales in part])
            for part in zip(*drawn, strict=True)
        )
        return values, gradients

    return measure


def log_ratio(scales: np.ndarray, first: int, last: int) -> float:
    return float(np.mean(np.log(scales[:, first] / scales[:, last])))


@pytest.mark.parametrize("batch", [2, 16])  # 8 and 64 samples: four independent positions an image
def test_batch_norm_growth_against_a_wide_network(wide, batch):
    _, gradients = wide(batch, 2, 8, stages=(f"1-{WIDTH} x{DEPTH}",), norm="batch")
    # Samples of three channels correlate: some layers pass before they do not. The last layer is
    # left out: with a stride behind it, three of four positions get nothing.
    measured = np.exp(log_ratio(gradients, SETTLED, -2) / (DEPTH - 2 - SETTLED))
    assert measured == pytest.approx(batch_norm_growth(4 * batch), rel=0.02)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_padding_against_a_wide_network(wide, activation):
    stages = ("3-128 x2", "3-256 x2")
    fields = {"stages": stages, "kernel_init": "glorot_normal", "activation": activation}
    values, gradients = wide(4, 8, 4, **fields)
    prediction = predict_signals(
        tuple(map(parse_stage, stages)),
        "glorot_normal",
        activation=activation,
        pooling="none",
        image_size=8,
    )
    assert np.exp(np.mean(np.log(values), 0)) == pytest.approx(
        prediction.preactivation_rms, rel=0.06
    )
    relative = np.exp(np.mean(np.log(gradients / gradients[:, -1:]), 0))
    assert relative == pytest.approx(prediction.gradient_rms, rel=0.06)
