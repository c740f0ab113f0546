"""Whatever is packed comes back; any bytes are unpacked or refused."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.errors import WireError
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.payload import pack, unpack

payloads = st.binary(max_size=200) | st.builds(bytes.__mul__, st.binary(min_size=1, max_size=9), st.integers(0, 9_000))


@given(payloads, st.sampled_from(Encoding))
def test_a_payload_comes_back(payload: bytes, encoding: Encoding) -> None:
    used, packed = pack(payload, encoding)
    assert len(packed) <= len(payload)
    assert unpack(packed, used) == payload


@given(st.binary(max_size=200), st.integers(0, 199))
def test_any_bytes_are_unpacked_or_refused(noise: bytes, keep: int) -> None:
    frame = pack(b"dull" * 2_000, Encoding.ZSTD)[1]
    for data in (noise, frame[:keep] + noise):
        with contextlib.suppress(WireError):
            unpack(data, Encoding.ZSTD)
