"""Fuzz one target until its runs are done or something is found: ``python -m fuzzing.one TARGET FLAGS...``.

A process of its own, because libFuzzer ends it with whatever it finds. FLAGS are libFuzzer's.
"""

from __future__ import annotations

import sys


def main() -> None:
    """See the module."""
    import atheris

    with atheris.instrument_imports(include=["edgemesh"]):
        from fuzzing.targets import targets

    name, *flags = sys.argv[1:]
    target = targets()[name]
    atheris.Setup([sys.argv[0], *flags], target.outcome)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
