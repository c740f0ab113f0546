"""Where pools keep what they know, and who holds which: one folder a pool, one lock a controller."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError, SkyfogError

STATE_DIR = "SKYFOG_STATE_DIR"


class Held(SkyfogError):
    """Another controller has the pool."""


@dataclass(frozen=True)
class Folder:
    """Of one pool."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def store(self) -> Path:
        return self.path / "pool.sqlite"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def log(self) -> Path:
        return self.path / "controller.log"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def trace(self) -> Path:
        return self.path / "trace.jsonl"

    def controller(self) -> int | None:
        """The process id of the pool's controller; None where none runs."""
        try:
            with self.lock.open("rb") as file:
                try:
                    # Shared: two that look do not take each other for a controller.
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read() or b"0")
        except (OSError, ValueError):
            return None
        return None


class Lock:
    """That only one controller runs a pool: held until it ends, however it ends."""

    def __init__(self, folder: Folder) -> None:
        """Raises Held."""
        folder.path.mkdir(parents=True, exist_ok=True)
        self._file = folder.lock.open("a+b")
        # One that looks (Folder.controller) holds it for an instant: an exclusive lock may have to wait for it, but not
        # for a controller, which lets nobody look.
        for _ in range(50):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pid = folder.controller()
                if pid is not None:
                    self._file.close()
                    raise Held(f"pool {folder.name} has a controller already: process {pid}") from None
        else:
            self._file.close()
            raise Held(f"{folder.lock}: cannot be locked")
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())
        self._file.flush()

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()


def root() -> Path:
    """Of all pools of this user."""
    given = os.environ.get(STATE_DIR)
    if given:
        return Path(given).resolve() / "pools"
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "skyfog" / "pools"


def folder_of(name: str) -> Folder:
    """Of a pool, whether it is there or not."""
    return Folder(root() / name)


def known() -> list[Folder]:
    """Of the pools that were ever begun and not purged, by name."""
    return [Folder(path.parent) for path in sorted(root().glob("*/pool.sqlite"))]


def find(name: str | None) -> Folder:
    """The pool of that name, or the only one there is. Raises ConfigError naming those that are known."""
    folders = known()
    names = [folder.name for folder in folders]
    if name is None:
        if len(folders) == 1:
            return folders[0]
        if not folders:
            raise ConfigError(f"no pool in {root()}; begin one with: skyfog pool up FILE")
        raise ConfigError(f"which pool? (known: {', '.join(names)})")
    if name not in names:
        hint = f"known: {', '.join(names)}" if names else f"there is none in {root()}; begin one: skyfog pool up FILE"
        raise ConfigError(f"no pool {name!r}{nearest(name, names)} ({hint})")
    return folder_of(name)
