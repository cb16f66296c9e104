"""Tells the C allocator to keep large buffers: activations come and go by the hundred a second."""

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
