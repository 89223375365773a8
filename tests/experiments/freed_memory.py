"""Page faults of a block of memory; imports little, for processes of its own."""

import resource


def faults_of_a_block(size: int) -> int:
    """Returns the page faults of writing `size` bytes, the tenth time that they are allocated."""
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        b"x" * size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
