"""Headers to bytes and back; nothing else in Skyfog knows the bytes. Pinned by golden files."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from skyfog_core.errors import UnsupportedVersion, WireError
from skyfog_core.wire.envelope import VERSION, Header, ReplyHeader

MAX_HEADER_BYTES = 4096

H = TypeVar("H", Header, ReplyHeader)

_encoder = msgspec.msgpack.Encoder()
_headers = msgspec.msgpack.Decoder(Header)
_replies = msgspec.msgpack.Decoder(ReplyHeader)


def encode(header: Header | ReplyHeader) -> bytes:
    """A header as bytes. Raises WireError when it would exceed MAX_HEADER_BYTES."""
    try:
        data = _encoder.encode(header)
    except UnicodeEncodeError:  # a service's message may hold what is no Unicode, such as a file name
        assert isinstance(header, ReplyHeader)
        message = header.message.encode("utf-8", "replace").decode()
        data = _encoder.encode(msgspec.structs.replace(header, message=message))
    if len(data) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(data)} bytes exceeds {MAX_HEADER_BYTES}")
    return data


def _version(data: bytes) -> int | None:
    """The first item of a msgpack array, whatever follows; None where it is no small positive integer."""
    if len(data) >= 2 and 0x90 <= data[0] <= 0x9F and data[1] <= 0x7F:
        return data[1]
    return None


def _decode(decoder: msgspec.msgpack.Decoder[H], data: bytes | None) -> H:
    if not data:
        raise WireError("no header")
    if len(data) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(data)} bytes exceeds {MAX_HEADER_BYTES}")
    version = _version(data)
    if version is not None and version > VERSION:
        raise UnsupportedVersion(f"header of version {version}; this Skyfog reads up to {VERSION}")
    try:
        header = decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise WireError(f"bad header: {error}") from None
    if header.version != VERSION:
        raise UnsupportedVersion(f"header of version {header.version}; this Skyfog reads {VERSION}")
    return header


def decode_header(data: bytes | None) -> Header:
    """Raises WireError, or UnsupportedVersion for a later version."""
    return _decode(_headers, data)


def decode_reply_header(data: bytes | None) -> ReplyHeader:
    """Raises WireError, or UnsupportedVersion for a later version."""
    return _decode(_replies, data)
