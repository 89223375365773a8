"""Every published layout: logits equal those that NumPy computes from the file's own arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.weights import files
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG, build_model
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.store import Weights, load_weights, save_weights

IMAGES = np.random.default_rng(2).integers(0, 256, (2, files.SIDE, files.SIDE, 3), np.uint8)
TORCH_MEAN, TORCH_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BGR_MEAN = np.array([103.939, 116.779, 123.68])
BGR = IMAGES[..., ::-1] - BGR_MEAN
RGB = IMAGES - BGR_MEAN[::-1]
TORCH_IMAGES = ((IMAGES / 255 - TORCH_MEAN) / TORCH_STD).transpose(0, 3, 1, 2)


@functools.cache
def network(variant: str, norm: str = "none") -> VGG:
    return build_model(files.model_fields(variant, norm), image_size=files.SIDE)


def logits(weights: Weights) -> np.ndarray:
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def apply(variables, images):
        return weights.model.apply(variables, weights.preprocessing.normalize(images))[0]

    return np.asarray(apply(weights.variables, jnp.asarray(IMAGES)))


def assert_close(actual: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(actual, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("variant", "norm"), files.TORCHVISION)
def test_torchvision(variant, norm, tmp_path):
    state = files.torch_state(variant, norm, "torchvision")
    safetensors.numpy.save_file(state, tmp_path / "net.safetensors")
    weights = import_weights(tmp_path / "net.safetensors", "torchvision", network(variant, norm))
    assert_close(
        logits(weights), files.torch_logits(TORCH_IMAGES, state, variant, norm, "torchvision")
    )


@pytest.mark.parametrize(("variant", "norm"), [("A", "none"), ("B", "batch")])
def test_timm(variant, norm, tmp_path):
    state = files.torch_state(variant, norm, "timm")
    safetensors.numpy.save_file(state, tmp_path / "net.safetensors")
    weights = import_weights(tmp_path / "net.safetensors", "timm", network(variant, norm))
    assert_close(logits(weights), files.torch_logits(TORCH_IMAGES, state, variant, norm, "timm"))


@pytest.mark.parametrize(
    ("variant", "container"), [("D", "legacy"), ("E", "legacy"), ("A", "model"), ("A", "keras3")]
)
def test_keras(variant, container, tmp_path):
    arrays = files.channels_last_arrays(variant)
    files.write_keras(tmp_path / "net.h5", arrays, container)
    weights = import_weights(tmp_path / "net.h5", "keras", network(variant))
    assert_close(logits(weights), files.channels_last_logits(BGR, arrays, variant))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("variant", ["A", "D"])
def test_caffemodel(variant, legacy, packed, tmp_path):
    arrays = files.caffe_arrays(variant)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(files.caffemodel(arrays, legacy=legacy, packed=packed))
    weights = import_weights(path, "caffe", network(variant))
    # The same numbers under torchvision's names: both put channels first.
    state = files.torch_state(variant, "none", "torchvision")
    wanted = files.torch_logits(BGR.transpose(0, 3, 1, 2), state, variant, "none", "torchvision")
    assert_close(logits(weights), wanted)


def test_frossards_npz(tmp_path):
    arrays = files.channels_last_arrays("D")
    renamed = {
        key.replace("/kernel", "_W").replace("/bias", "_b"): array for key, array in arrays.items()
    }
    np.savez(tmp_path / "vgg16_weights.npz", **renamed)
    weights = import_weights(tmp_path / "vgg16_weights.npz", "caffe", network("D"))
    assert_close(logits(weights), files.channels_last_logits(RGB, arrays, "D"))


def test_chainers_npz(tmp_path):
    np.savez(tmp_path / "VGG_ILSVRC_16_layers.npz", **files.caffe_arrays("D"))
    weights = import_weights(tmp_path / "VGG_ILSVRC_16_layers.npz", "caffe", network("D"))
    state = files.torch_state("D", "none", "torchvision")
    wanted = files.torch_logits(BGR.transpose(0, 3, 1, 2), state, "D", "none", "torchvision")
    assert_close(logits(weights), wanted)


def test_pth(tmp_path):
    torch = pytest.importorskip("torch")
    state = files.torch_state("A", "batch", "torchvision")
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save(tensors, tmp_path / "net.pth")
    weights = import_weights(tmp_path / "net.pth", "torchvision", network("A", "batch"))
    wanted = files.torch_logits(TORCH_IMAGES, state, "A", "batch", "torchvision")
    assert_close(logits(weights), wanted)

    torch.save({"model": tensors, "hook": print}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="more than tensors"):
        import_weights(tmp_path / "code.pth", "torchvision", network("A", "batch"))
    (tmp_path / "cut.pth").write_bytes((tmp_path / "net.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.pth"):
        import_weights(tmp_path / "cut.pth", "torchvision", network("A", "batch"))


def test_metadata_survives_the_store(tmp_path):
    arrays = files.channels_last_arrays("A")
    files.write_keras(tmp_path / "net.h5", arrays, "legacy")
    imported = import_weights(tmp_path / "net.h5", "keras", network("A"))
    save_weights(tmp_path / "net.safetensors", imported)
    loaded = load_weights(tmp_path / "net.safetensors")
    assert loaded.model == imported.model
    assert loaded.preprocessing == Preprocessing(
        73, 64, mean=(103.939, 116.779, 123.68), channel_order="BGR"
    )
    assert loaded.class_names == tuple("0123456")
    assert loaded.origin == {"layout": "keras", "file": "net.h5", "kernel_order": "HWIO"}
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, imported.variables)


# --- Files that do not fit --------------------------------------------------------------------


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    """One complete file of each kind, and its layout."""
    folder = tmp_path_factory.mktemp("good")
    arrays = files.channels_last_arrays("A")
    state = files.torch_state("A", "none", "torchvision")
    safetensors.numpy.save_file(state, folder / "net.safetensors")
    files.write_keras(folder / "net.h5", arrays, "legacy")
    model = files.caffemodel(files.caffe_arrays("A"), legacy=False)
    (folder / "net.caffemodel").write_bytes(model)
    np.savez(folder / "net.npz", **files.caffe_arrays("A"))
    return {
        folder / "net.safetensors": "torchvision",
        folder / "net.h5": "keras",
        folder / "net.caffemodel": "caffe",
        folder / "net.npz": "caffe",
    }


@pytest.mark.parametrize("kept", [0, 0.001, 0.5, 0.99])
def test_truncated_files_are_named(kept, good_files, tmp_path):
    for path, layout in good_files.items():
        contents = path.read_bytes()
        (tmp_path / path.name).write_bytes(contents[: int(kept * len(contents))])
        with pytest.raises(UserError, match=path.name):
            import_weights(tmp_path / path.name, layout, network("A"))


def test_files_of_another_kind_are_named(good_files, tmp_path):
    for path, layout in good_files.items():
        (tmp_path / path.name).write_bytes(b"These are no weights at all. " * 100)
        with pytest.raises(UserError, match=path.name):
            import_weights(tmp_path / path.name, layout, network("A"))
        with pytest.raises(UserError, match="no weights file"):
            import_weights(tmp_path / f"absent_{path.name}", layout, network("A"))


def test_another_network_is_told(good_files):
    for path, layout in good_files.items():
        with pytest.raises(UserError, match=r"(?s)missing: .*--variant"):
            import_weights(path, layout, network("B"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.8.bias": None}, r"missing: features\.8\.bias"),
        ({"extra": np.zeros(3, np.float32)}, "unknown: extra"),
        (
            {"features.3.weight": np.zeros((4, 3, 3, 3), np.float32)},
            r"features\.3\.weight has shape \(4, 3, 3, 3\), not \(4, 2, 3, 3\)",
        ),
        ({"features.8.bias": np.zeros(8, np.int32)}, r"features\.8\.bias .* type int32"),
    ],
)
def test_wrong_tensors_are_named(change, message, tmp_path):
    state = files.torch_state("A", "none", "torchvision") | change
    state = {name: array for name, array in state.items() if array is not None}
    safetensors.numpy.save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match=message):
        import_weights(tmp_path / "net.safetensors", "torchvision", network("A"))


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "vgg19.npy", {"conv1_1": [1, 2]}, allow_pickle=True)
    np.savez(tmp_path / "vgg19.npz", conv1_1_W=np.array([{}], object), allow_pickle=True)
    for name in ("vgg19.npy", "vgg19.npz"):
        with pytest.raises(UserError, match="pickle"):
            import_weights(tmp_path / name, "caffe", network("E"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "A-LRN"}, "use variant A"),
        ({"head": "linear", "head_features": None}, "three fully connected layers"),
        ({"pooling": "average"}, "pooling 'max', not 'average'"),
        ({"norm": "batch"}, "no place for bn1_1"),
    ],
)
def test_networks_without_published_weights(fields, message, good_files):
    model = build_model(files.model_fields("A") | fields, image_size=files.SIDE)
    (path,) = (path for path in good_files if path.suffix == ".h5")
    with pytest.raises(UserError, match=message):
        import_weights(path, "keras", model)


def test_unknown_layout():
    with pytest.raises(UserError, match="'tensorflow'"):
        import_weights("net", "tensorflow", network("A"))
