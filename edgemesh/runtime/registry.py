"""Runtimes by name, imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgemesh.errors import ModelError

if TYPE_CHECKING:
    from edgemesh.runtime.executor import Runtime

RUNTIMES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "tflite": ("edgemesh.runtime.tflite", "TfliteRuntime", ("tflite-runtime", "ai-edge-litert")),
    "torch": ("edgemesh.runtime.torch", "TorchRuntime", ("torch",)),
}
"""Name of the runtime (and manifest format): module, class, distributions of which one is needed."""


def installed_runtimes() -> dict[str, str]:
    """Name to ``distribution version`` of what is installed; imports none of it."""
    from importlib import metadata  # and with it email, csv and zipfile, which executors have no use for

    found: dict[str, str] = {}
    for name, (_, _, distributions) in RUNTIMES.items():
        for distribution in distributions:
            try:
                found[name] = f"{distribution} {metadata.version(distribution)}"
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def runtime_for(name: str) -> Runtime:
    """The runtime of a manifest format; raises ModelError for an unknown one."""
    if name not in RUNTIMES:
        raise ModelError(f"no runtime for format {name!r}: known are {', '.join(RUNTIMES)}")
    module, attribute, _ = RUNTIMES[name]
    runtime: Runtime = getattr(import_module(module), attribute)()
    return runtime
