"""Every module has a test file of its name: vgg_jax/a/b.py is tested by tests/a/test_b.py."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE, TESTS = ROOT / "vgg_jax", ROOT / "tests"

# Modules without a file of their name, and what tests them instead.
ELSEWHERE = {
    "__init__": "tests/test_predict.py",  # names that are imported late
    "__main__": "tests/test_cli.py",  # which runs `python -m vgg_jax`
    "models/__init__": "tests/models/test_build_model.py",
}
# Test files that are about no single module.
ACROSS = {
    "data/test_faults",  # damaged data of every source, through the pipeline
    "models/test_build_model",
    "models/test_goldens",  # parity with PyTorch
    "weights/test_vgg19_photos",  # the published network on photos
    "test_any_network",  # the page's code
    "test_configs",  # of configs/
    "test_end_to_end",
    "test_faults",  # of storage and of people
    "test_extras",  # of pyproject.toml
    "test_finetune",
    "test_layers",
    "test_links",
    "test_mirror",
    "test_notebooks",  # of docs/
    "test_python_page",  # the code of three pages
    "test_readme",
    "test_repository_size",
    "test_site",  # of docs/
    "test_tutorial",
    "test_wheel",  # outside a checkout
}


def modules() -> set[str]:
    """Returns the modules of the library, such as "models/vgg", without empty ones."""
    paths = [path for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 1]
    return {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in paths}


def files() -> set[str]:
    """Returns the test files but those of experiments, such as "models/test_vgg"."""
    names = {
        path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*.py")
    }
    return {name for name in names if not name.startswith("experiments/")}


def mirror(module: str) -> str:
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}".removeprefix("/")


def test_every_module_has_a_test_file():
    known = modules()
    assert len(known) > 80
    missing = {module for module in known if mirror(module) not in files()}
    assert missing == ELSEWHERE.keys()
    for path in ELSEWHERE.values():
        assert (ROOT / path).is_file()


def test_every_test_file_names_a_module_or_a_part_of_one():
    """A part: test_vgg_endpoints.py has what would make test_vgg.py too long."""
    own = {mirror(module) for module in modules()}
    others = {
        name
        for name in files() - own
        if not any(name.startswith(f"{each}_") for each in own & files())
    }
    assert others == ACROSS


def test_no_test_file_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in TESTS.rglob("*.py")}
    assert not {str(path): count for path, count in lines.items() if count > 350}


def test_every_experiment_has_a_test_file():
    folders = {path.name for path in (ROOT / "experiments").iterdir() if path.is_dir()}
    names = {path.stem.removeprefix("test_") for path in TESTS.glob("experiments/test_*.py")}
    assert names - {"redraw"} == folders - {"__pycache__"}  # test_redraw is of all of them
