"""Copies between two pieces of RAM, by a thread: memcpy runs without the interpreter's lock."""

from __future__ import annotations

from skyfog_inference.link.ticket import PiecesTicket
from skyfog_inference.link.workers import Piece, Workers, check_ends
from skyfog_inference.tier import Span
from skyfog_inference.tiers.memory import RamTier

PIECE_BYTES = 16 << 20


class ThreadLink:
    """RAM to RAM."""

    def __init__(self, source: RamTier, target: RamTier, threads: int = 1) -> None:
        self.source = source
        self.target = target
        self._ram = source, target
        self._workers = Workers(f"copy {source.name} to {target.name}", threads, self._move)

    def copy(self, source: Span, target: Span) -> PiecesTicket:
        check_ends(self.source, self.target, source, target)
        return self._workers.copy(source, target, PIECE_BYTES)

    def _move(self, piece: Piece) -> None:
        source, target = self._ram
        end = piece.at + piece.size
        target.bytes(piece.target)[piece.at : end].copy_(source.bytes(piece.source)[piece.at : end])

    def close(self) -> None:
        self._workers.close()
