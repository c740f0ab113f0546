"""Any header survives the wire; any bytes are read or refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skyfog_core.errors import Status, UnsupportedVersion, WireError
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Header, ReplyHeader

Read = Callable[[bytes | None], Header | ReplyHeader]
READERS = pytest.mark.parametrize("read", [codec.decode_header, codec.decode_reply_header])

ids = st.binary(min_size=16, max_size=16)
counts = st.integers(0, 2**63)
headers = st.builds(
    Header,
    st.just(VERSION),
    ids,
    counts,
    counts,
    st.binary(min_size=32, max_size=32),
    st.integers(-(2**63), 2**63),
)
replies = st.builds(ReplyHeader, st.just(VERSION), ids, st.sampled_from(Status), counts, counts, st.text(max_size=900))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(headers)
def test_any_header_survives_the_wire(header: Header) -> None:
    assert codec.decode_header(codec.encode(header)) == header


@given(replies)
def test_any_reply_header_survives_the_wire(header: ReplyHeader) -> None:
    assert codec.decode_reply_header(codec.encode(header)) == header


@READERS
@given(data=st.binary(max_size=200))
@example(data=b"\x91" * 4_000)  # arrays in arrays
def test_any_bytes_are_read_or_refused(read: Read, data: bytes) -> None:
    with contextlib.suppress(WireError):
        assert read(data).version == VERSION


@READERS
@given(items=st.lists(plain, max_size=8))
def test_any_array_is_read_or_refused(read: Read, items: list[object]) -> None:
    with contextlib.suppress(WireError):
        read(msgspec.msgpack.encode(items))


@READERS
@given(header=headers | replies, at=st.integers(0, 60), value=st.integers(0, 255))
def test_a_header_with_one_byte_changed_is_read_or_refused(
    read: Read, header: Header | ReplyHeader, at: int, value: int
) -> None:
    data = bytearray(codec.encode(header))
    data[at % len(data)] = value
    with contextlib.suppress(WireError):
        read(bytes(data))


@READERS
@given(version=st.integers(VERSION + 1, 127), rest=st.lists(plain, max_size=14))
def test_every_later_version_is_told_as_such(read: Read, version: int, rest: list[object]) -> None:
    data = msgspec.msgpack.encode([version, *rest])
    if len(data) <= codec.MAX_HEADER_BYTES:
        with pytest.raises(UnsupportedVersion):
            read(data)
