"""What is installed is all that is there: tests run from the tree would not miss a package."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_of_the_tree_is_installed() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    installed = set(settings["options"]["packages"].split())

    found = {
        ".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "edgemesh").rglob("__init__.py")
    }

    assert installed == found | {"edgemesh.brokers", "edgemesh.firmware_profiles"}
