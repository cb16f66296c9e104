"""Write the golden files of protocol version 1: ``python -m tests.protocol.make_golden``.

Only on purpose: a golden file that changes is a change of the wire contract that deployed devices will meet.
"""

from __future__ import annotations

from pathlib import Path

from edgemesh.protocol.jsontext import encode_json
from tests.protocol.messages import FRAMES, JSON_MESSAGES

GOLDEN = Path(__file__).parent / "golden"


def golden_payloads() -> dict[str, bytes]:
    """File name to the bytes that today's encoders make."""
    payloads = {f"{name}.json": encode_json(message) for name, message in JSON_MESSAGES.items()}
    payloads.update({f"{name}.bin": frame.encode() for name, frame in FRAMES.items()})
    return payloads


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    payloads = golden_payloads()
    for path in GOLDEN.iterdir():
        if path.name not in payloads:
            path.unlink()
    for name, payload in payloads.items():
        (GOLDEN / name).write_bytes(payload)
    print(f"{len(payloads)} golden files in {GOLDEN}")


if __name__ == "__main__":
    main()
