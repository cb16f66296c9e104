"""Every module of ``tools/`` can be imported: some are only run by hand, for a figure of a document."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

PACKAGES = ("benchmarks", "fuzzing", "outages", "reproduction", "soaking", "testbeds")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported(package: str) -> None:
    found = list(pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."))

    assert found
    for module in found:
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
