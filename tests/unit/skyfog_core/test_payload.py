"""Packing: only where it helps, and what cannot be trusted is refused."""

from __future__ import annotations

import random

import pytest
import zstandard

from skyfog_core.errors import WireError
from skyfog_core.wire import payload as module
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.payload import THRESHOLD_BYTES, pack, unpack

DULL = b"dull" * THRESHOLD_BYTES
NOISE = random.Random(1).randbytes(4 * THRESHOLD_BYTES)


def test_what_becomes_smaller_is_packed_and_comes_back() -> None:
    encoding, packed = pack(DULL, Encoding.ZSTD)
    assert encoding is Encoding.ZSTD
    assert len(packed) < len(DULL) / 10
    assert unpack(packed, encoding) == DULL


@pytest.mark.parametrize(
    ("payload", "encoding"),
    [
        (DULL, Encoding.PLAIN),
        (NOISE, Encoding.ZSTD),
        (DULL[: THRESHOLD_BYTES - 1], Encoding.ZSTD),
        (b"", Encoding.ZSTD),
    ],
    ids=["not wanted", "no smaller", "small", "empty"],
)
def test_what_is_better_left_alone_is_not_even_copied(payload: bytes, encoding: Encoding) -> None:
    used, same = pack(payload, encoding)
    assert used is Encoding.PLAIN
    assert same is payload
    assert unpack(same, used) is payload


def test_what_may_not_be_unpacked_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", len(DULL) - 1)
    assert pack(DULL, Encoding.ZSTD) == (Encoding.PLAIN, DULL)


def test_a_frame_that_says_too_much_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    _, packed = pack(DULL, Encoding.ZSTD)
    monkeypatch.setattr(module, "MAX_BYTES", len(DULL) - 1)
    monkeypatch.setattr(zstandard, "ZstdDecompressor", None)
    with pytest.raises(WireError, match=f"{len(DULL)} bytes"):
        unpack(packed, Encoding.ZSTD)


GOOD = zstandard.ZstdCompressor().compress(DULL)
BAD = {
    "nothing": b"",
    "noise": NOISE,
    "plain": DULL,
    "cut": GOOD[:-1],
    "more behind": GOOD + b"x",
    "size not said": zstandard.ZstdCompressor(write_content_size=False).compress(DULL),
    "one byte wrong": GOOD[:-2] + bytes([GOOD[-2] ^ 0xFF]) + GOOD[-1:],
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bytes_that_are_no_such_frame_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="packed payload"):
        unpack(data, Encoding.ZSTD)
