"""What glibc's allocator does with the memory that a step on a CPU frees."""

import ctypes
import sys

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Keeps freed memory in the process, where the C library is glibc; else does nothing.

    A step on a CPU allocates its temporaries, hundreds of megabytes, and frees them when it is
    done. By default they go back to the system each time, and the next step takes a page fault for
    every 4 kB (docs/performance.md).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
