"""What the C allocator keeps of freed memory, and when it gives it back."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 32 << 20


def keep_large_buffers() -> None:
    """Reuse freed memory up to 32 MB instead of giving it back to the system (glibc; elsewhere nothing).

    By default glibc maps each buffer of 128 KB and more anew and unmaps it when it is freed, and the kernel
    clears its pages one by one: a tenth of a job's time over two devices (measured: docs/benchmarks.md).
    Costs up to 32 MB of resident memory after large messages.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # musl and macOS have none
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back_unused() -> None:
    """Return freed memory to the system (glibc; elsewhere nothing); for rare moments, such as after loading.

    Slicing and loading a model need several times its size for a moment, and of that ``keep_large_buffers``
    would keep 32 MB resident for good.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
