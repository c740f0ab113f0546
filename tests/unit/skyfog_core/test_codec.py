from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from skyfog_core.errors import Status, UnsupportedVersion, WireError
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, Encoding, Header, ReplyHeader, refusal

GOLDEN = Path(__file__).parent / "golden"
ID, HASH = bytes(range(16)), bytes(range(32))

# What the golden files of this version hold. Never change a line: a change of the bytes is a new version.
PINNED: dict[str, Header | ReplyHeader] = {
    "header_v2": Header(2, ID, 2, 1_500, HASH, -3, "robot-7", Encoding.ZSTD, Encoding.ZSTD),
    "reply_ok_v2": ReplyHeader(2, ID, Status.OK, 41_000, 7, "", 1_200, 3, 0, Encoding.ZSTD),
    "reply_failed_v2": ReplyHeader(2, ID, Status.FAILED, 0, 0, "naïve: division by zero", retry_after_ms=250),
}
OLD = ("header_v1", "reply_ok_v1", "reply_failed_v1")


def decode(header: Header | ReplyHeader, data: bytes) -> Header | ReplyHeader:
    return codec.decode_header(data) if isinstance(header, Header) else codec.decode_reply_header(data)


@pytest.mark.parametrize("name", PINNED)
def test_bytes_on_the_wire_are_those_of_the_golden_file(name: str) -> None:
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
    assert codec.encode(PINNED[name]).hex() == golden.hex()
    assert decode(PINNED[name], golden) == PINNED[name]


def test_every_golden_file_is_checked_and_of_this_version() -> None:
    assert {path.stem for path in GOLDEN.glob("*.hex")} == {*PINNED, *OLD}
    assert all(name.endswith(f"_v{VERSION}") for name in PINNED)


@pytest.mark.parametrize("name", OLD)
def test_headers_of_version_1_are_refused_by_their_version(name: str) -> None:
    data = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
    read = codec.decode_header if name.startswith("header") else codec.decode_reply_header
    with pytest.raises(UnsupportedVersion, match="version 1; this Skyfog reads 2"):
        read(data)


def raw(*items: object) -> bytes:
    return msgspec.msgpack.encode(items)


FIELDS = (ID, 0, 100, HASH, 0)


@pytest.mark.parametrize("data", [raw(3, *FIELDS), raw(3), raw(3, {"all": "different"}), raw(127, 1)])
def test_a_later_version_is_told_as_such_whatever_it_holds(data: bytes) -> None:
    for reader in (codec.decode_header, codec.decode_reply_header):
        with pytest.raises(UnsupportedVersion, match="reads up to 2"):
            reader(data)


def test_an_earlier_version_is_told_as_such() -> None:
    with pytest.raises(UnsupportedVersion, match="version 0; this Skyfog reads 2"):
        codec.decode_header(raw(0, *FIELDS))


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"\x00",
        b"garbage",
        b"\xc1" * 20,
        raw(2),
        raw(2, *FIELDS, "r", 0, 0, 0),
        raw(2, ID[:15], *FIELDS[1:]),
        raw(2, ID + b"x", *FIELDS[1:]),
        raw(2, ID, 0, 100, HASH[:31]),
        raw(2, ID, 0, -1, HASH),
        raw(2, ID, -1, 100, HASH),
        raw(2, ID, 0, 1.5, HASH),
        raw(2, "text", 0, 100, HASH),
        raw("1", *FIELDS),
        raw(2, *FIELDS) + b"\x00",
        raw(2, *FIELDS)[:-1],
        msgspec.msgpack.encode({"version": 2}),
    ],
    ids=repr,
)
def test_bytes_that_are_no_header_are_refused(data: bytes | None) -> None:
    with pytest.raises(WireError):
        codec.decode_header(data)


@pytest.mark.parametrize(
    "data",
    [
        raw(2, ID, 6, 0, 0),
        raw(2, ID, -1, 0, 0),
        raw(2, ID, 0, 0),
        raw(2, ID, 0, 0, 0, 5),
        raw(2, ID, 0, -1, 0),
        raw(2, ID, 0, 0, 0, "", 0, 0, 0, 7),
    ],
)
def test_bytes_that_are_no_reply_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        codec.decode_reply_header(data)


def test_an_oversize_header_is_neither_written_nor_read() -> None:
    fits = refusal(ID, Status.FAILED, "x" * 4_000)
    assert codec.decode_reply_header(codec.encode(fits)) == fits
    with pytest.raises(WireError, match="exceeds 4096"):
        codec.encode(refusal(ID, Status.FAILED, "x" * 4_096))
    with pytest.raises(WireError, match="exceeds 4096"):
        codec.decode_reply_header(raw(2, ID, Status.FAILED, 0, 0, "x" * 4_096))


def test_text_that_is_no_unicode_cannot_stop_an_answer() -> None:
    reply = codec.decode_reply_header(codec.encode(refusal(ID, Status.FAILED, "no file \udcff.png")))
    assert reply.message == "no file ?.png"


def test_priority_may_be_left_out() -> None:
    assert codec.decode_header(raw(2, ID, 0, 100, HASH)).priority == 0


@pytest.mark.parametrize("wrong", [(b"short", 0, 1, HASH), (ID, 0, 1, b"short"), (ID, -1, 1, HASH), (ID, 0, -1, HASH)])
def test_a_header_of_wrong_lengths_or_negative_numbers_cannot_be_made(wrong: tuple[bytes, int, int, bytes]) -> None:
    with pytest.raises(ValueError, match=r"bytes, not|negative"):
        Header(VERSION, *wrong)
