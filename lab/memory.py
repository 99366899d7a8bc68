"""Allocator setting that keeps freed memory in the process."""

import ctypes
import platform

TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD in malloc.h
MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD in malloc.h
MAX_KEPT_BYTES = 32 * 2**20  # the largest M_MMAP_THRESHOLD that every version accepts; larger blocks are returned


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the system; return True if that is supported.

    By default glibc returns it, and the system must map and zero every page again at the next training step.
    Source: the manual page mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, MAX_KEPT_BYTES)) and bool(mallopt(TRIM_THRESHOLD, -1))
