"""The file of answers of a batch: a line is there whole or not at all, whatever ends the process.

Each answer is one write at the end of the file, so that a killed process loses none that it had written; a line torn by
a full disk or a machine's crash is cut. The disk is asked to keep what was written once a second, and at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skyfog_core.errors import ConfigError, ServiceFailed
from skyfog_core.units import S

SYNC_NS = 1 * S
CHUNK = 1 << 20  # bytes


class Results:
    """An output file that is open for one batch alone."""

    def __init__(self, path: Path) -> None:
        """Open or make the file and read whose answers it has. Raises ConfigError."""
        self.path = path
        self._synced_ns = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        try:
            self._need_plain()
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end = self._whole()
            self.done = self._read()
            os.ftruncate(self._file, self._end)
        except BlockingIOError:
            os.close(self._file)
            raise ConfigError(f"{path}: another batch writes it") from None
        except OSError as error:
            os.close(self._file)
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        except ConfigError:
            os.close(self._file)
            raise

    def _need_plain(self) -> None:
        """A device or a pipe has no end to read to."""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise ConfigError(f"{self.path}: should be a plain file, which answers are read from and added to")

    def write(self, answer: Mapping[str, Any], now_ns: int) -> None:
        """Add one answer. Raises ServiceFailed where the disk does not take it; then the file is as before."""
        line = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace") + b"\n"
        try:
            written = 0
            while written < len(line):  # a disk that becomes full within the line says so at the next part
                written += os.pwrite(self._file, line[written:], self._end + written)
            if now_ns - self._synced_ns >= SYNC_NS:
                self._synced_ns = now_ns
                os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise ServiceFailed(
                f"{self.path}: {error.strerror or error}; the {len(self.done)} answers in it are whole, and the same "
                "command goes on from there"
            ) from None
        self._end += len(line)
        self.done.add(str(answer["custom_id"]))

    def close(self) -> None:
        """Have the disk keep all of it."""
        try:
            with contextlib.suppress(OSError):  # the answers are written
                os.fsync(self._file)
        finally:
            os.close(self._file)

    def _whole(self) -> int:
        """Where the last whole line ends."""
        end = os.fstat(self._file).st_size
        while end:
            begin = max(end - CHUNK, 0)
            newline = os.pread(self._file, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
        return 0

    def _read(self) -> set[str]:
        done: set[str] = set()
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break  # torn: it is cut
                try:
                    done.add(json.loads(line)["custom_id"])
                except (ValueError, TypeError, KeyError):
                    raise ConfigError(
                        f"{self.path}: line {number} is no answer of a batch: give a new file, or remove this one"
                    ) from None
        return done
