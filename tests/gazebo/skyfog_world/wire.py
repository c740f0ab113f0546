"""The transport of Gazebo classic 11, as much of it as is needed to subscribe and publish; standard library only.

On a TCP stream each message is 8 hexadecimal digits, its length, and then a protobuf message. Messages to and from the
master are gazebo.msgs.Packet {1: Time, 2: type, 3: data}. Publishers and subscribers then talk to each other directly.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5
Message = dict[int, list[Any]]
Field = tuple[int, bool | int | float | str | bytes]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(fields: Sequence[Field]) -> bytes:
    """Protobuf of fields by number: int and bool as varint, float as double, text and bytes with their length."""
    out = b""
    for number, value in fields:
        if isinstance(value, bool | int):
            out += _varint(number << 3 | VARINT) + _varint(int(value))
        elif isinstance(value, float):
            out += _varint(number << 3 | DOUBLE) + struct.pack("<d", value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | BYTES) + _varint(len(data)) + data
    return out


def decode(data: bytes | memoryview) -> Message:
    """Field numbers to their values, in order."""
    view, at, found = memoryview(data), 0, {}

    def varint() -> int:
        nonlocal at
        shift = number = 0
        while True:
            byte = view[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(view):
        tag = varint()
        kind = tag & 7
        if kind == VARINT:
            value: Any = varint()
        elif kind == DOUBLE:
            value, at = struct.unpack_from("<d", view, at)[0], at + 8
        elif kind == FLOAT:
            value, at = struct.unpack_from("<f", view, at)[0], at + 4
        elif kind == BYTES:
            length = varint()
            value, at = view[at : at + length], at + length
        else:
            raise ValueError(f"protobuf has no wire type {kind}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(value: memoryview) -> str:
    return bytes(value).decode()


def _send(stream: socket.socket, data: bytes) -> None:
    stream.sendall(b"%08X" % len(data) + data)


def _exactly(stream: socket.socket, count: int) -> bytes:
    out = bytearray()
    while len(out) < count:
        part = stream.recv(min(1 << 20, count - len(out)))
        if not part:
            raise ConnectionError("closed")
        out += part
    return bytes(out)


def _receive(stream: socket.socket) -> bytes:
    return _exactly(stream, int(_exactly(stream, 8), 16))


def _packet(kind: str, data: bytes) -> bytes:
    now = time.time()
    stamp = encode([(1, int(now)), (2, int(now % 1 * 1e9))])
    return encode([(1, stamp), (2, kind), (3, data)])


class Client:
    """One connection to a master on this machine. Callbacks run on threads of their own."""

    def __init__(self, port: int = 11345) -> None:
        self._master = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._master.settimeout(None)
        self.topics: set[str] = set()  # that somebody publishes
        self._heard: dict[str, Callable[[bytes], None]] = {}
        self._peers: dict[str, list[socket.socket]] = {}
        self._joined: set[tuple[str, str, int]] = set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self._address = self._door.getsockname()
        for run in (self._obey_master, self._open_door):
            threading.Thread(target=run, daemon=True).start()

    def subscribe(self, topic: str, kind: str, heard: Callable[[bytes], None]) -> None:
        self._heard[topic] = heard
        _send(self._master, _packet("subscribe", self._subscription(topic, kind)))

    def advertise(self, topic: str, kind: str) -> None:
        self._peers.setdefault(topic, [])
        host, port = self._address
        _send(self._master, _packet("advertise", encode([(1, topic), (2, kind), (3, host), (4, port)])))

    def publish(self, topic: str, data: bytes) -> None:
        for peer in list(self._peers[topic]):
            _send(peer, data)

    def has_subscriber(self, topic: str) -> bool:
        return bool(self._peers[topic])

    def _subscription(self, topic: str, kind: str) -> bytes:
        host, port = self._address
        return encode([(1, topic), (2, host), (3, port), (4, kind), (5, False)])

    def _obey_master(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while True:
                packet = decode(_receive(self._master))
                kind, data = text(packet[2][0]), decode(packet[3][0])
                if kind == "publishers_init":
                    self.topics |= {text(decode(publisher)[1][0]) for publisher in data.get(1, [])}
                elif kind == "publisher_add":
                    self.topics.add(text(data[1][0]))
                # Of a publisher that was there before we subscribed, and of one that came later.
                elif kind in ("publisher_subscribe", "publisher_advertise"):
                    self._join(data)

    def _join(self, publisher: Message) -> None:
        topic, kind, host = (text(publisher[field][0]) for field in (1, 2, 3))
        port = publisher[4][0]
        if topic in self._heard and (topic, host, port) not in self._joined:
            self._joined.add((topic, host, port))
            threading.Thread(target=self._listen, args=(topic, kind, host, port), daemon=True).start()

    def _listen(self, topic: str, kind: str, host: str, port: int) -> None:
        with contextlib.suppress(ConnectionError, OSError), socket.create_connection((host, port)) as stream:
            _send(stream, _packet("sub", self._subscription(topic, kind)))
            while True:
                data = _receive(stream)
                if data:
                    self._heard[topic](data)

    def _open_door(self) -> None:
        while True:
            stream, _ = self._door.accept()
            threading.Thread(target=self._welcome, args=(stream,), daemon=True).start()

    def _welcome(self, stream: socket.socket) -> None:
        with contextlib.suppress(ConnectionError, OSError, ValueError):
            packet = decode(_receive(stream))
            if text(packet[2][0]) == "sub":
                self._peers.setdefault(text(decode(packet[3][0])[1][0]), []).append(stream)
            while True:
                _receive(stream)
