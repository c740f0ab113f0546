"""Copies between RAM and a file past the page cache (O_DIRECT), several pieces in flight.

Read through the cache, weights larger than memory push everything else out of it and are never found again; read past
it, the disk writes into the buffer by itself and no processor copies.
"""

from __future__ import annotations

import errno
import os

from skyfog_inference.link.ticket import PiecesTicket
from skyfog_inference.link.workers import Piece, Workers, check_ends
from skyfog_inference.tier import Span
from skyfog_inference.tiers.disk import SECTOR, DiskTier
from skyfog_inference.tiers.memory import RamTier

PIECE_BYTES = 8 << 20
IN_FLIGHT = 4


class DirectLink:
    """Disk to RAM, or RAM to disk. Offsets and sizes of spans are multiples of 4096."""

    def __init__(
        self,
        source: DiskTier | RamTier,
        target: DiskTier | RamTier,
        in_flight: int = IN_FLIGHT,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self.source = source
        self.target = target
        if isinstance(source, DiskTier) and isinstance(target, RamTier):
            self._disk, self._ram, self._transfer, self._verb = source, target, os.preadv, "reading"
        elif isinstance(source, RamTier) and isinstance(target, DiskTier):
            self._disk, self._ram, self._transfer, self._verb = target, source, os.pwritev, "writing"
        else:
            raise TypeError(f"{source.name} to {target.name}: one of them should be a file, the other RAM")
        self._piece_bytes = piece_bytes
        self._workers = Workers(f"{self._verb} {self._disk.name}", in_flight, self._move)

    def copy(self, source: Span, target: Span) -> PiecesTicket:
        check_ends(self.source, self.target, source, target)
        if any(number % SECTOR for number in (source.offset, target.offset, source.size)):
            raise ValueError(f"{self._verb} {self._disk.name}: offsets and sizes should be multiples of {SECTOR}")
        return self._workers.copy(source, target, self._piece_bytes)

    def _move(self, piece: Piece) -> None:
        on_disk, in_ram = (piece.source, piece.target) if self._disk is self.source else (piece.target, piece.source)
        offset, moved = on_disk.offset + piece.at, 0
        with self._ram.view(Span(self._ram, in_ram.offset + piece.at, piece.size)) as view:
            while moved < piece.size:
                with view[moved:] as rest:
                    moved += self._some(rest, offset + moved)
        if not self._disk.direct:
            os.posix_fadvise(self._disk.fd, offset, piece.size, os.POSIX_FADV_DONTNEED)

    def _some(self, view: memoryview, offset: int) -> int:
        """Bytes that one call has moved, a multiple of 4096. Raises OSError with file and offset."""
        direct = self._disk.direct
        try:
            count = self._transfer(self._disk.fd, [view], offset)
        except OSError as error:
            if error.errno == errno.EINVAL and direct:  # which another piece may have ended meanwhile
                self._disk.buffered()
                return 0
            raise OSError(error.errno, f"{self._verb} at byte {offset}: {error.strerror}", self._disk.name) from None
        if count == 0 or (count < len(view) and count % SECTOR):
            raise OSError(
                errno.EIO, f"{self._verb} at byte {offset}: the file ends after {count} bytes", self._disk.name
            )
        return count

    def close(self) -> None:
        self._workers.close()
