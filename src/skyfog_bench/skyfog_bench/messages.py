"""What a benchmark's Echo request holds, so that each end can count it without knowing the other.

byte 0      1: answer with the data, 0: answer with none, as a detector answers an image
bytes 1-8   number of the call, big-endian; the rest is filling

The number's upper half is the lane (who calls, by which policy or peer), its lower half the call's index in the lane:
calls of one index find the same service times in every lane.
"""

from __future__ import annotations

HEAD_BYTES = 9
NUMBER = slice(1, HEAD_BYTES)
LANE_BITS = 32
LONE_LANE = (1 << 31) - 1  # of calls that are not laid beside others


def number(lane: int, index: int) -> int:
    """The number of a lane's call."""
    return lane << LANE_BITS | index


def lane_of(numbered: int) -> int:
    """The lane of a call's number."""
    return numbered >> LANE_BITS


def index_of(numbered: int) -> int:
    """The index of a call within its lane."""
    return numbered & ((1 << LANE_BITS) - 1)


def head(numbered: int, *, echo: bool) -> bytes:
    """The first HEAD_BYTES of a request."""
    return bytes([echo]) + numbered.to_bytes(8, "big")


def answer(data: bytes) -> bytes:
    """What the service answers to `data`."""
    return data if data[:1] == b"\x01" else b""


def number_of(data: bytes) -> int:
    """The number of the call."""
    return int.from_bytes(data[NUMBER], "big")
