"""What the process keeps of the memory it frees."""

import subprocess
import sys

import pytest

# Allocates and frees 64 MB a few times; prints the page faults of the last time.
PROGRAM = """
import resource, sys
import numpy as np
from vgg_jax.host_memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    array = np.ones(2**23)
    del array
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    def page_faults(*arguments: str) -> int:
        command = [sys.executable, "-c", PROGRAM, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # 64 MB are 16,384 pages, or 32 where the system gives out huge ones.
    assert page_faults("keep") < 16 <= page_faults()
