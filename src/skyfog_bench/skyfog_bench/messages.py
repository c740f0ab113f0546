"""What a benchmark's Echo request holds, so that each end can count it without knowing the other.

byte 0      1: answer with the data, 0: answer with none, as a detector answers an image
bytes 1-8   number of the call, big-endian; the rest is filling
"""

from __future__ import annotations

HEAD_BYTES = 9
NUMBER = slice(1, HEAD_BYTES)


def head(number: int, *, echo: bool) -> bytes:
    """The first HEAD_BYTES of a request."""
    return bytes([echo]) + number.to_bytes(8, "big")


def answer(data: bytes) -> bytes:
    """What the service answers to `data`."""
    return data if data[:1] == b"\x01" else b""


def number_of(data: bytes) -> int:
    """The number of the call."""
    return int.from_bytes(data[NUMBER], "big")
