"""Limits of everything that is decoded. Received bytes are hostile until a decoder accepted them."""

from __future__ import annotations

from typing import Final

JSON_BYTES: Final = 4 * 1024 * 1024
"""A manifest of 200 units with 1,100 chunk digests has about 200 KB."""
JSON_DEPTH: Final = 16
JSON_VALUES: Final = 1 << 18
"""Commas outside texts: 4 MB of ``[],[],...`` would otherwise become 90 MB of lists before anyone looks."""
TEXT_CHARS: Final = 4096
ITEMS: Final = 65_536
"""Entries of one JSON array or object."""

HEADER_BYTES: Final = 64 * 1024
HEADER_ITEMS: Final = 512
"""Entries of one array or map of a frame's header: msgpack makes room for as many as the sender announces."""
TENSORS: Final = 256
"""Live tensors at one cut (DenseNet-like skips stay below 100)."""
RANK: Final = 8
ELEMENTS: Final = 1 << 28
TENSOR_BYTES: Final = 256 * 1024 * 1024
"""Mosquitto and MQTT itself end at 268,435,455 bytes."""
ROUTE: Final = 64
"""Partitions of one route."""
TIMINGS: Final = 128
CHANGES: Final = 64
"""Of one question what if."""
FRONT: Final = 256
"""Points of an answer that are told."""
HISTORY: Final = 1000
"""Records of one answer."""

IMAGE_BYTES: Final = 32 * 1024 * 1024
IMAGE_PIXELS: Final = 64 * 1024 * 1024

UNITS: Final = 1024
CHUNKS: Final = 16_384
CHUNK_BYTES: Final = 512 * 1024
MODEL_BYTES: Final = CHUNKS * CHUNK_BYTES
