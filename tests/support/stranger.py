"""A replica that does not keep to the protocol: `python stranger.py ENDPOINT LIVE_KEY QUERY_KEY HOW`."""

from __future__ import annotations

import json
import signal
import sys

import zenoh

from skyfog_core.errors import Status
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, ReplyHeader

HUGE_SEQUENCE = b"\x00\x01\x00\x00" + b"\x00" * 8 + b"\xff\xff\xff\x7f"


def reply(how: str, request_header: bytes) -> tuple[bytes | None, bytes]:
    """Attachment and payload of a reply that is wrong in the way of `how`."""
    request_id = codec.decode_header(request_header).request_id
    good = ReplyHeader(VERSION, request_id, Status.OK, 0, 0)
    match how:
        case "no_header":
            return None, b"x"
        case "garbage_header":
            return b"\xde\xad\xbe\xef" * 8, b"x"
        case "future_version":
            return bytes([0x92, VERSION + 1, 0x00]), b"x"
        case "garbage_payload":
            return codec.encode(good), bytes(range(97, 123)) * 10
        case "huge_sequence":
            return codec.encode(good), HUGE_SEQUENCE
        case "empty_payload":
            return codec.encode(good), b""
        case "other_request":
            return codec.encode(ReplyHeader(VERSION, bytes(16), Status.OK, 0, 0)), b"x"
    raise ValueError(how)


def main() -> None:
    endpoint, live_key, query_key, how = sys.argv[1:]
    config = zenoh.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("connect/endpoints", json.dumps([endpoint]))
    with zenoh.open(config) as session:

        def answer(query: zenoh.Query) -> None:
            attachment, payload = reply(how, query.attachment.to_bytes())
            with query:
                query.reply(query.key_expr, payload, attachment=attachment)

        session.declare_queryable(query_key, answer, complete=True)
        token = session.liveliness().declare_token(live_key)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        token.undeclare()


if __name__ == "__main__":
    main()
