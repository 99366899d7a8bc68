"""Memory that a training step frees, kept for the next step."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt, by their numbers in malloc.h
LARGEST = 32 * 2**20  # bytes: the highest MMAP_THRESHOLD that every version takes; larger blocks are given back


def keep_freed_memory() -> bool:
    """From now on, let this process keep the memory that it frees; whether the C library can be told so.

    By default glibc hands it back to the system, which gives out and clears every page again at the next step.
    Source: the manual page mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, -1))
