"""Imports point down, as docs/architecture.md draws them, and never in a circle."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).parent.parent

# From the bottom up. A package or module imports from itself and from lower levels only.
LEVELS = (
    {"errors"},
    {"json_files", "ops", "progress", "rng", "xla"},
    {"cli", "config", "data", "distributed", "models"},
    {"probes", "runs", "weights"},
    {"evaluation", "reporting", "sweeping"},
    {"features", "training"},
)
PREDICT = "vgg_jax.predict"  # `from vgg_jax import predict` gives the function of that name
TOP = len(LEVELS)  # the command lines, and what `import vgg_jax` offers


def modules(*folders: str) -> dict[str, ast.Module]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text()
        )
        for path in paths
    }


def imports(tree: ast.Module, known: dict[str, ast.Module]) -> set[str]:
    """Returns the modules that a module imports anywhere: late and for type checking alone too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} - {PREDICT}
            found |= (inner & known.keys()) or {node.module}
    return found & known.keys()


def level(module: str) -> int:
    package = module.split(".")[1] if "." in module else ""
    return next((i for i, names in enumerate(LEVELS) if package in names), TOP)


def test_imports_of_the_library_point_down():
    known = modules("vgg_jax")
    wrong = [
        f"{module} imports {other}"
        for module, tree in known.items()
        for other in imports(tree, known)
        if level(other) >= level(module) and other.split(".")[:2] != module.split(".")[:2]
    ]
    assert not wrong
    assert {module.split(".")[1] for module in known if "." in module} >= set().union(*LEVELS)


def test_nothing_hides_the_function_predict():
    known = modules("vgg_jax", "configs", "experiments", "tests")
    assert not [module for module, tree in known.items() if PREDICT in imports(tree, known)]


def test_no_module_imports_itself_through_others():
    known = modules("vgg_jax", "configs", "experiments")
    graph = {module: imports(tree, known) - {module} for module, tree in known.items()}
    assert sum(map(len, graph.values())) > 300  # it does see imports
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_nothing_below_knows_the_experiments():
    known = modules("vgg_jax", "configs", "experiments")
    for module, tree in known.items():
        if module.startswith("vgg_jax"):
            outside = {other.split(".")[0] for other in imports(tree, known)} - {"vgg_jax"}
            assert not outside, f"{module} imports {outside}"
