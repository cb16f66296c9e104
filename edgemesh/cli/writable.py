"""Whether a file can be written, asked before the minutes that make its content."""

from __future__ import annotations

from pathlib import Path

from edgemesh.errors import SettingsError


def check_writable(path: Path) -> None:
    """Raise SettingsError where ``path`` cannot be written; what is there stays as it is."""
    is_there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise cannot_write(path, error) from None
    if not is_there:
        path.unlink()


def cannot_write(path: Path, error: OSError) -> SettingsError:
    """The one sentence for a file that cannot be written."""
    return SettingsError(f"cannot write {path}: {error.strerror or error}")
