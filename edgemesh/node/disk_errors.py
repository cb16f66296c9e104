"""One sentence for what a disk does not allow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgemesh.errors import OperatorError


@contextlib.contextmanager
def disk_errors(failed: str, remedy: str) -> Iterator[None]:
    """Make an OSError in the body an OperatorError: what ``failed``, the system's reason, and what to do."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        raise OperatorError(f"{failed} ({error.strerror or error}{where}): {remedy}") from None
