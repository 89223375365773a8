"""What a library prints of an error that it raises as well is dropped; all else is printed."""

import subprocess
import sys

import pytest

# In a process of its own: what is hushed stays so. A module by the name of orbax stands for it.
SCRIPT = """
import logging, pathlib, runpy, sys
from vgg_jax.training.hushed import hush_orbax

module = pathlib.Path(sys.argv[1]) / "orbax" / "code.py"
module.parent.mkdir()
module.write_text('''
import logging, types
@types.coroutine
def pause():
    yield
async def read():
    try:
        await pause()
    finally:
        raise ValueError("of a coroutine")
def warn(text):
    logging.getLogger("absl").warning(text)
''')
logging.basicConfig(format="LOG %(message)s")
if sys.argv[2] == "hushed":
    hush_orbax()
    hush_orbax()  # a second time changes nothing
orbax = runpy.run_path(str(module))
orbax["warn"]("a traceback of orbax")
logging.getLogger("absl").warning("of this project")
logging.getLogger("asyncio").error("Task exception of <coroutine at %s>", module)
logging.getLogger("asyncio").error("of another task")
logging.getLogger("other").error("of %s, but by another logger", module)

class Fails:
    def __init__(self, error):
        self.error = error
    def __del__(self):
        raise self.error

reading = orbax["read"]()
reading.send(None)
del reading  # while it waits
Fails(RuntimeError("Event loop is closed"))
Fails(ValueError("of something else"))
for error in (RuntimeError("Event loop is closed"), RuntimeError("a mistake of ours")):
    sys.excepthook(type(error), error, None)
"""
OF_LIBRARIES = (
    "LOG a traceback of orbax",
    "LOG Task exception of <coroutine",
    "RuntimeError: Event loop is closed",
    "ValueError: of a coroutine",
)
KEPT = (
    "LOG of this project",
    "LOG of another task",
    "by another logger",
    "ValueError: of something else",
    "RuntimeError: a mistake of ours",
)


@pytest.mark.parametrize("how", ["hushed", "loud"])
def test_only_what_orbax_raises_as_well_is_dropped(tmp_path, how):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), how],
        capture_output=True,
        text=True,
        check=True,
    )
    for text in KEPT:
        assert text in result.stderr
    for text in OF_LIBRARIES:
        assert (text in result.stderr) == (how == "loud"), text
