"""Seconds that this machine takes for a model: ``python -m testbeds.host_speed MANIFEST FILE``.

One thread, as an emulated board has; a process of its own, so that who asks need not load a runtime.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest


def seconds_here(manifest: Manifest, content: Path, folder: Path, environment: dict[str, str]) -> float:
    """Median of several runs of the whole, as an executor measures it."""
    described = folder / "manifest.json"
    described.write_bytes(encode_json(manifest))
    command = [sys.executable, "-m", "testbeds.host_speed", str(described), str(content)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise OSError(f"this machine cannot run {manifest.name}: {finished.stderr.strip()[-300:]}")
    return float(finished.stdout)


def main() -> None:
    """See the module."""
    from edgemesh.runtime.worker_process import ExecutorCore

    manifest = decode_json(Manifest, Path(sys.argv[1]).read_bytes())
    core = ExecutorCore(1)
    core.answer({"do": "open", "path": sys.argv[2]}, memoryview(encode_json(manifest)))
    whole = {"do": "measure", "digest": manifest.digest, "start": 0, "stop": manifest.unit_count}
    answer, _ = core.answer(whole, memoryview(b""))
    if "code" in answer:
        sys.exit(str(answer["text"]))
    print(answer["seconds"])


if __name__ == "__main__":
    main()
