"""A payload packed for the link where that makes it smaller, and unpacked within bounds.

A packed payload is one zstd frame that says how large it becomes.
"""

from __future__ import annotations

import zstandard

from skyfog_core.errors import WireError
from skyfog_core.wire.envelope import Encoding

THRESHOLD_BYTES = 4_096  # less is not worth the time
MAX_BYTES = 256 << 20  # of a payload unpacked: more is refused before any memory is taken for it
LEVEL = 1  # zstd's quickest usual one: a request waits for it


def pack(payload: bytes, encoding: Encoding) -> tuple[Encoding, bytes]:
    """`payload` in `encoding` and that, or PLAIN and itself where packing does not make it smaller. Any thread."""
    if encoding is Encoding.PLAIN or not THRESHOLD_BYTES <= len(payload) <= MAX_BYTES:
        return Encoding.PLAIN, payload
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(payload)
    return (encoding, packed) if len(packed) < len(payload) else (Encoding.PLAIN, payload)


def unpack(payload: bytes, encoding: Encoding) -> bytes:
    """What was packed. Raises WireError for bytes that are no such frame, or that would become too large."""
    if encoding is Encoding.PLAIN:
        return payload
    try:
        size = zstandard.frame_content_size(payload)
        if not 0 <= size <= MAX_BYTES:
            raise WireError(f"packed payload of {size} bytes; at most {MAX_BYTES}, and said beforehand")
        unpacked = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"packed payload: {error}") from None
    if len(unpacked) != size:
        raise WireError(f"packed payload of {size} bytes became {len(unpacked)}")
    return unpacked
