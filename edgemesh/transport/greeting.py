"""What answers on a TCP port: one MQTT 5 CONNECT, and the first packet that comes back."""

from __future__ import annotations

import socket

ACCEPTED = 0
OLDER_MQTT = frozenset({1, 0x84})
"""Answers of a broker that speaks MQTT 3 only."""
_CLIENT_ID = b"edgemesh-greeting"


def greeting(host: str, port: int, timeout: float = 2.0) -> int | None:
    """Reason code with which a broker answers an anonymous MQTT 5 CONNECT; None when no broker does.

    0 (``ACCEPTED``) is a welcome, 1 or 0x84 mean that it speaks an older MQTT only, 0x86 or 0x87 that it
    wants another user. What listens but speaks TLS, HTTP or nothing within ``timeout`` seconds is no broker.
    """
    try:
        with socket.create_connection((host, port), timeout) as sock:
            sock.sendall(_connect_packet())
            answer = b""
            # Fixed header, remaining length, flags, reason code (MQTT 5, 3.2).
            while len(answer) < 4:
                received = sock.recv(4 - len(answer))
                if not received:
                    return None
                answer += received
            if answer[0] != 0x20:
                return None
            sock.sendall(b"\xe0\x00")  # DISCONNECT: without it a broker would log a lost client
            return answer[3]
    except OSError:
        return None


def _connect_packet() -> bytes:
    # Name, level 5, clean start, keep-alive 10 s (rumqttd refuses 0), no properties, client id.
    body = b"\x00\x04MQTT\x05\x02\x00\x0a\x00" + len(_CLIENT_ID).to_bytes(2, "big") + _CLIENT_ID
    return b"\x10" + bytes([len(body)]) + body
