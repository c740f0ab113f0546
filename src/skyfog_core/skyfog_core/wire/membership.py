"""Who may be asked: the replicas whose liveliness token is held. Router and pool meet only here.

A token is put before its replica takes requests and dropped when it drains or dies; the session of a killed process
drops it within milliseconds, that of a frozen one after its lease. A token has no payload, so what a replica says of
itself is the last chunk of the token's key: it comes with the token, never before or after it.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, insort

import msgspec

from skyfog_core.errors import WireError
from skyfog_core.wire.keys import ReplicaKey

VERSION = 1
MAX_CHARS = 1_200


class Announcement(msgspec.Struct, frozen=True, array_like=True):
    """What a replica says of itself. A reader takes what it knows of a later version: fields are only ever added."""

    version: int = VERSION
    boot: int = 0  # drawn at the process's start: another value is another process
    price_per_hour: float = 0.0  # USD for the machine; 0: not told
    capacity: int = 1  # requests that run at once
    local: bool = False  # on a robot itself: asked last, and by that robot only
    robot: str = ""  # whose fallback it is, where it is local; empty: of any robot that sees it

    def __post_init__(self) -> None:
        if not 0.0 <= self.price_per_hour < 1e6 or self.capacity < 1 or self.boot < 0:
            raise ValueError(f"price {self.price_per_hour}, capacity {self.capacity}, boot {self.boot}: out of range")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Announcement)


def to_chunk(announcement: Announcement) -> str:
    """An announcement as the last chunk of a token's key: letters, digits, `-` and `_`."""
    return "A" + base64.urlsafe_b64encode(_encoder.encode(announcement)).rstrip(b"=").decode()


def from_chunk(chunk: str) -> Announcement:
    """Raises WireError for a chunk that is none."""
    if not chunk.startswith("A") or len(chunk) > MAX_CHARS:
        raise WireError(f"{chunk[:60]!r} is no announcement")
    padded = chunk[1:] + "=" * (-(len(chunk) - 1) % 4)
    try:
        return _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise WireError(f"{chunk[:60]!r} is no announcement: {error}") from None


class Membership:
    """The live replicas of one service, in a stable order, and what each said last."""

    def __init__(self) -> None:
        self._said: dict[ReplicaKey, Announcement] = {}
        self._live: list[ReplicaKey] = []

    def join(self, who: ReplicaKey, announcement: Announcement) -> bool:
        """A token appeared. Returns False where the same one was known already."""
        if self._said.get(who) == announcement:
            return False
        if who not in self._said:
            self._live = self._live.copy()  # a caller may still go through the old one
            insort(self._live, who)
        self._said[who] = announcement
        return True

    def leave(self, who: ReplicaKey, announcement: Announcement) -> bool:
        """A token is gone. Returns False where it was not known, or a newer one has taken its place."""
        if self._said.get(who) != announcement:
            return False
        del self._said[who]
        self._live = self._live.copy()
        del self._live[bisect_left(self._live, who)]
        return True

    def live(self) -> list[ReplicaKey]:
        """Sorted by zone, then name. Not to be changed by the caller."""
        return self._live

    def said(self, who: ReplicaKey) -> Announcement:
        """What a live replica announced. Raises KeyError for one that is not there."""
        return self._said[who]

    def __contains__(self, who: object) -> bool:
        return who in self._said

    def __len__(self) -> int:
        return len(self._said)
