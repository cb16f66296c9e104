"""The photograph that comes with the demo extra: Grace Hopper in uniform, in the public domain."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgemesh.errors import missing_extra


def demo_photograph() -> Path:
    """Path of the photograph in matplotlib's sample data; raises MissingExtraError without matplotlib."""
    # Found without importing it, which takes half a second.
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise missing_extra("matplotlib, which brings the photograph,", "demo")
    return Path(found.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
