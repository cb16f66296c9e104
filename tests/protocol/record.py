"""Record today's bytes for ever: ``python -m tests.protocol.record``.

The golden files are what this release writes, and change with it. A recorded file is what a release wrote
once: devices that still run it will go on sending these bytes, so it is read by every later release of the
same major version and never written again. This adds what is new to the folder of this version and touches
nothing else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgemesh.protocol.topics import MAJOR, MINOR
from tests.protocol.make_golden import golden_payloads
from tests.protocol.messages import ACTIVATION, FRAMES, Frame, activation_frame, many_tensors

HERE = Path(__file__).parent
SUMS = "SHA256SUMS"
RECORDED_FRAMES: dict[str, Frame] = {
    **FRAMES,
    # Not among the golden files: a compressor may choose other bytes tomorrow, but must read these.
    **{
        f"activation-{codec}-many": activation_frame(ACTIVATION, many_tensors, codec)
        for codec in ("raw+zstd", "f16+zstd", "q8+zstd")
    },
}


def folders() -> list[Path]:
    """Of all minor versions of this major one, oldest first."""
    return sorted(HERE.glob(f"golden-{MAJOR}.*"), key=lambda path: int(path.name.rpartition(".")[2]))


def sums_of(folder: Path) -> dict[str, str]:
    """File name to SHA-256, as ``sha256sum -c`` reads it."""
    lines = (folder / SUMS).read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def main() -> None:
    folder = HERE / f"golden-{MAJOR}.{MINOR}"
    folder.mkdir(exist_ok=True)
    recorded = {path.name: path.read_bytes() for each in folders() for path in each.iterdir()}
    today = golden_payloads()
    for name, frame in RECORDED_FRAMES.items():
        # What a compressor chose is recorded once, or each of its releases would look like a new message.
        if name in FRAMES or f"{name}.bin" not in recorded:
            today[f"{name}.bin"] = frame.encode()
    new = {
        name: payload
        for name, payload in sorted(today.items())
        if recorded.get(name) != payload and not (folder / name).exists()
    }
    with (folder / SUMS).open("a") as sums:
        for name, payload in new.items():
            (folder / name).write_bytes(payload)
            sums.write(f"{hashlib.sha256(payload).hexdigest()}  {name}\n")
    print(f"{len(new)} files recorded in {folder}")


if __name__ == "__main__":
    main()
