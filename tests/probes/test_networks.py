"""The probes on networks of Linen, of NNX, and on trees of parameters, against the chain rule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.probes.gradients import layer_statistics
from vgg_jax.probes.networks import gradient_norms, open_network
from vgg_jax.probes.noise import gradient_noise

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3)).astype(np.float32)
KERNELS = {
    "inner/one": RNG.standard_normal((3, 4)).astype(np.float32),
    "inner/two": RNG.standard_normal((4, 2)).astype(np.float32),
}


class LinenInner(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(4, use_bias=False, name="one")(x))
        return nn.Dense(2, use_bias=False, name="two")(x)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return LinenInner(name="inner")(x)


class NnxInner(nnx.Module):
    def __init__(self, rngs):
        self.two = nnx.Linear(4, 2, use_bias=False, rngs=rngs)
        self.one = nnx.Linear(3, 4, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.two(nnx.relu(self.one(x)))


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.inner = NnxInner(rngs)

    def __call__(self, x):
        return self.inner(x)


def nested_params():
    return {"inner": {name[6:]: {"kernel": jnp.asarray(k)} for name, k in KERNELS.items()}}


def nnx_net():
    net = NnxNet(nnx.Rngs(0))
    net.inner.one.kernel[...] = KERNELS["inner/one"]
    net.inner.two.kernel[...] = KERNELS["inner/two"]
    return net


def total(model, x):
    return jnp.sum(model(x))


def mean_square(model, x):
    return jnp.mean(model(x) ** 2)


def applied(params, x):
    return jnp.sum(LinenNet().apply({"params": params}, x))


NETWORKS = {
    "linen": (lambda: LinenNet().bind({"params": nested_params()}), total),
    "nnx": (nnx_net, total),
    "function": (nested_params, applied),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("compiled", [False, True])
def test_against_the_chain_rule(kind, compiled):
    make, loss = NETWORKS[kind]
    measure = functools.partial(gradient_norms, loss=loss, batch=X)
    if compiled and kind == "linen":
        measured = jax.jit(lambda p: measure(LinenNet().bind({"params": p})))(nested_params())
    elif compiled:
        measured = (nnx.jit if kind == "nnx" else jax.jit)(measure)(make())
    else:
        measured = measure(make())
        assert list(measured["output_rms"]) == ["inner/one", "inner/two", "inner"]
        assert list(measured["param_norm"]) == ["inner/one/kernel", "inner/two/kernel"]

    z = X @ KERNELS["inner/one"]
    relu = np.maximum(z, 0)
    gradient_z = (z > 0) * KERNELS["inner/two"].sum(1)
    outputs = {"inner/one": z, "inner/two": relu @ KERNELS["inner/two"]}
    output_gradients = {"inner/one": gradient_z, "inner/two": np.ones((5, 2))}
    gradients = {"inner/one": X.T @ gradient_z, "inner/two": relu.T @ np.ones((5, 2))}
    for name, kernel in KERNELS.items():
        for quantity, key, expected in (
            ("weight_grad_norm", f"{name}/kernel", np.linalg.norm(gradients[name])),
            ("param_norm", f"{name}/kernel", np.linalg.norm(kernel)),
            ("output_rms", name, np.sqrt(np.mean(outputs[name] ** 2))),
            ("output_grad_rms", name, np.sqrt(np.mean(output_gradients[name] ** 2))),
        ):
            assert float(measured[quantity][key]) == pytest.approx(expected, rel=1e-5)


def test_ours_is_measured_as_by_the_probe_that_knows_its_endpoints():
    model = VGG(stages=("3-4 x2",), num_classes=3, head="linear", head_window=2, norm="batch")
    images = np.random.default_rng(0).standard_normal((4, 4, 4, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def loss(model, images):
        logits, _ = model(images, train=True)
        return jnp.mean(logits**2)

    def known(params, perturbations):
        (logits, endpoints), _ = model.apply(
            variables | {"params": params},
            images,
            train=True,
            perturbations=perturbations,
            mutable="batch_stats",
        )
        return jnp.mean(logits**2), endpoints

    bound = model.bind(variables, mutable=["batch_stats"])
    measured = jax.jit(lambda images: gradient_norms(bound, loss, images))(images)
    expected, _ = jax.jit(
        lambda params: layer_statistics(known, params, model.preactivations, nn.relu)
    )(variables["params"])
    for layer, endpoint in model.preactivations.items():
        for quantity, name, other in (
            ("weight_grad_norm", f"{layer}/kernel", "weight_grad_norm"),
            ("output_grad_rms", endpoint, "activation_grad_rms"),
            ("output_rms", endpoint, "preactivation_rms"),
        ):
            found = float(measured[quantity][name])
            assert found == pytest.approx(float(expected[other][layer]), rel=1e-4), (layer, other)


class Noisy(nnx.Module):
    """With all that a call changes: running statistics and the count of random draws."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.dense(x)))


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_the_network_stays_as_it_is(kind):
    if kind == "nnx":
        model = Noisy()
        before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))
        first = gradient_norms(model, mean_square, X)
        again = gradient_norms(model, mean_square, X)
        after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        assert type(model.dense) is nnx.Linear
        assert int(model.dropout.rngs.count[...]) == 0
    else:
        drop = nn.Dropout(0.5, deterministic=False)
        model = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=False), drop])
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        variables = jax.jit(model.init)(keys, X)
        before = jax.tree.map(np.asarray, variables["batch_stats"])
        bound = model.bind(variables, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"])
        first = gradient_norms(bound, mean_square, X)
        again = gradient_norms(bound, mean_square, X)
        after = variables["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, before, after)
    jax.tree.map(np.testing.assert_array_equal, first, again)  # the masks too


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(3, use_bias=False)
        return dense(dense(x))


def test_a_layer_that_is_called_twice_has_two_outputs_and_one_gradient():
    variables = jax.jit(Shared().init)(jax.random.key(0), X)
    measured = gradient_norms(Shared().bind(variables), total, X)
    assert list(measured["output_rms"]) == ["Dense_0", "Dense_0:2"]
    assert list(measured["weight_grad_norm"]) == ["Dense_0/kernel"]
    kernel = variables["params"]["Dense_0"]["kernel"]
    expected = jax.jit(jax.grad(lambda k: jnp.sum(X @ k @ k)))(kernel)
    found = measured["weight_grad_norm"]["Dense_0/kernel"]
    np.testing.assert_allclose(found, np.linalg.norm(expected), rtol=1e-5)


class Rematerialised(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="last")(nn.remat(LinenInner)(name="inner")(x))


class NnxRematerialised(nnx.Module):
    def __init__(self, rngs):
        self.inner = NnxInner(rngs)
        self.last = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.remat(lambda inner, x: inner(x))(self.inner, x))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_inside_a_transformation_parameters_are_measured_and_outputs_are_not(kind):
    if kind == "linen":
        model = Rematerialised()
        model = model.bind(jax.jit(model.init)(jax.random.key(0), X))
    else:
        model = NnxRematerialised(nnx.Rngs(0))
    measured = gradient_norms(model, total, X)
    assert set(measured["output_rms"]) <= {"last", "inner"}
    assert "last" in measured["output_rms"]
    assert float(measured["weight_grad_norm"]["inner/one/kernel"]) > 0


def test_the_other_probes_take_an_opened_network():
    params, loss_fn = open_network(nnx_net(), total)
    layers = {name: name for name in KERNELS}
    measured, loss = layer_statistics(
        lambda p, added: loss_fn(p, X, added), params, layers, jax.nn.relu
    )
    relu = np.maximum(X @ KERNELS["inner/one"], 0)
    assert float(loss) == pytest.approx((relu @ KERNELS["inner/two"]).sum(), rel=1e-5)
    expected = np.linalg.norm(relu.T @ np.ones((5, 2)))
    assert float(measured["weight_grad_norm"]["inner/two"]) == pytest.approx(expected, rel=1e-5)
    noise = gradient_noise(lambda p, x: loss_fn(p, x, {})[0], params, X, 5, ["inner", "inner/one"])
    whole, part = noise["gradient_variance"]["inner"], noise["gradient_variance"]["inner/one"]
    assert float(whole) == pytest.approx(float(noise["gradient_variance"]["all"]), rel=1e-6)
    assert 0 < float(part) < float(whole)


def test_mistakes_say_what_to_give():
    with pytest.raises(UserError, match=r"LinenNet has no variables: give model\.bind"):
        gradient_norms(LinenNet(), total, X)
    with pytest.raises(UserError, match="must be one number"):
        gradient_norms(nnx_net(), lambda model, x: (total(model, x), x), X)
    with pytest.raises(UserError, match="must be one number"):
        gradient_norms(nnx_net(), lambda model, x: model(x), X)
    params, loss_fn = open_network(nnx_net(), total)
    with pytest.raises(UserError, match=r"with a kernel 'inner/on'. Did you mean 'inner/one'"):
        layer_statistics(
            lambda p, z: loss_fn(p, X, z), params, {"inner/on": "inner/one"}, jax.nn.relu
        )
    with pytest.raises(UserError, match=r"unknown layer 'iner/one'"):
        gradient_noise(lambda p, x: loss_fn(p, x, {})[0], params, X, 5, ["iner/one"])
