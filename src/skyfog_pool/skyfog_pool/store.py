"""What a pool's controller must not forget: one SQLite file a pool, the truth of what was decided.

A decision is committed before anybody is asked to carry it out, so that a controller may be killed at any instruction:
its successor finds the decision, and asks again with the same token. One process, the controller, writes replicas; the
command line only adds a revision of the service file or a wish, and reads.

    revisions   every service file that was given, newest last; `version` numbers what runs on a machine
    replicas    one row each, with its token, its machine and what it has cost; the newest of those that ended are kept
    events      decisions and what came of them, the newest few thousand
    meta        single values: the wish (up, down), the policy's snapshot, sums of what was dropped
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from skyfog_core.errors import SkyfogError
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Market

SCHEMA = 1
BUSY_LIMIT_S = 5.0
KEPT_EVENTS = 5_000
KEPT_ENDED = 2_000  # replicas that ended
TRIM_EVERY = 100  # events between two looks at how many there are
Wish = Literal["up", "down"]

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (
    revision INTEGER PRIMARY KEY, version INTEGER NOT NULL, runs TEXT NOT NULL, spec TEXT NOT NULL,
    source TEXT NOT NULL, at_unix REAL NOT NULL);
CREATE TABLE IF NOT EXISTS replicas (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, zone TEXT NOT NULL,
    market TEXT NOT NULL, state TEXT NOT NULL, because TEXT NOT NULL, decided_unix REAL NOT NULL,
    instance TEXT NOT NULL, endpoint TEXT NOT NULL, price_per_hour REAL NOT NULL, why TEXT NOT NULL,
    started_unix REAL, ready_unix REAL, ended_unix REAL, seconds REAL NOT NULL, usd REAL NOT NULL,
    billed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at_unix REAL NOT NULL, name TEXT NOT NULL, replica INTEGER, fields TEXT NOT NULL);
"""


class StoreError(SkyfogError):
    """A pool's store cannot be read or written; the message names the file."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment, from which the time until another is told though the machine was started anew in between."""

    boot: str
    steady_ns: int
    unix_s: float

    def elapsed_s(self, since: Stamp) -> float:
        """Steady within one boot of the machine; by the wall clock, never below zero, across several."""
        if self.boot == since.boot:
            return max(0, self.steady_ns - since.steady_ns) / 1e9
        return max(0.0, self.unix_s - since.unix_s)

    @classmethod
    def parse(cls, text: str) -> Stamp | None:
        """None for an empty text."""
        return cls(*json.loads(text)) if text else None

    def __str__(self) -> str:
        return json.dumps(astuple(self))


@dataclass(slots=True)
class Row:
    """One replica."""

    id: int
    token: str
    version: int
    zone: str
    market: Market
    state: State
    because: str  # why it was launched
    decided_unix: float
    instance: str = ""  # its machine, once the provider has named it
    endpoint: str = ""
    price_per_hour: float = 0.0
    why: str = ""  # why it is in its state, as last told
    started_unix: float | None = None
    ready_unix: float | None = None
    ended_unix: float | None = None
    seconds: float = 0.0  # of a machine
    usd: float = 0.0
    billed: str = ""  # a Stamp: until when; empty: its machine has not been seen

    @property
    def is_live(self) -> bool:
        """May hold a machine; one in FAILED_CLEANUP does."""
        return self.ended_unix is None


@dataclass(frozen=True, slots=True)
class Revision:
    """A service file as it was given."""

    revision: int
    version: int  # of what runs: revisions that differ in policy alone share it
    runs: str  # hash of what runs
    spec: str  # JSON
    source: str  # the file's path
    at_unix: float


@dataclass(frozen=True, slots=True)
class Event:
    """A decision, or what came of one."""

    at_unix: float
    name: str
    replica: int | None
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Costs:
    """Of all machines so far, over every restart."""

    seconds: float = 0.0
    usd: float = 0.0


_NAMES = [field.name for field in fields(Row)]
_COLUMNS = ", ".join(_NAMES)
_MARKS = ", ".join("?" for _ in _NAMES)


class Store:
    """One pool's file. To be used from one thread."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError for a file that cannot be opened, or that a later version wrote."""
        self.path = path
        self._noted = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # autocommit: transactions are begun and ended by transaction() alone
            self._db = sqlite3.connect(path, timeout=BUSY_LIMIT_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a decision outlives the machine's power too
            (schema,) = self._db.execute("PRAGMA user_version").fetchone()
            if schema > SCHEMA:
                raise StoreError(f"{path}: written by a later Skyfog (schema {schema}; this one knows {SCHEMA})")
            if schema < SCHEMA:
                self._db.executescript(f"{_TABLES}PRAGMA user_version = {SCHEMA};")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: {error}") from None

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises StoreError where it could not be committed."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None

    def changed_by_others(self) -> int:
        """A number that changes when another process commits."""
        ((number,),) = self._do("PRAGMA data_version")
        return int(number)

    # what is wished

    def wish(self) -> Wish:
        return "down" if self.meta("wish") == "down" else "up"

    def revisions(self) -> list[Revision]:
        """Oldest first."""
        return [Revision(*row) for row in self._do("SELECT * FROM revisions ORDER BY revision")]

    def add_revision(self, runs: str, spec: str, source: str, at_unix: float, *, anew: bool = False) -> Revision:
        """The newest revision from now on; what ran under the same hash before has its version again, unless `anew`.

        To be called in a transaction.
        """
        known = self.revisions()
        same = [] if anew else [revision.version for revision in known if revision.runs == runs]
        version = same[-1] if same else 1 + max((revision.version for revision in known), default=0)
        added = Revision(
            1 + max((revision.revision for revision in known), default=0), version, runs, spec, source, at_unix
        )
        self._do("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", astuple(added))
        return added

    # replicas

    def replicas(self, *, live: bool = False) -> list[Row]:
        """By id; the live ones alone where wanted."""
        rows = [
            Row(**{**dict(zip(_NAMES, values, strict=True)), "state": State(values[5])})
            for values in self._do(f"SELECT {_COLUMNS} FROM replicas ORDER BY id")  # noqa: S608  # our own names
        ]
        return [row for row in rows if row.is_live] if live else rows

    def put(self, row: Row) -> None:
        """Add or replace one."""
        self._do(f"INSERT OR REPLACE INTO replicas VALUES ({_MARKS})", astuple(row))  # noqa: S608  # only marks

    def costs(self) -> Costs:
        ((seconds, usd),) = self._do("SELECT total(seconds), total(usd) FROM replicas")
        dropped = self._dropped()
        return Costs(seconds + dropped.seconds, usd + dropped.usd)

    # events and single values

    def note(self, event: Event) -> None:
        """Keep an event, and let go of the oldest. To be called in a transaction."""
        self._do(
            "INSERT INTO events (at_unix, name, replica, fields) VALUES (?, ?, ?, ?)",
            (event.at_unix, event.name, event.replica, json.dumps(event.fields)),
        )
        self._noted += 1
        if self._noted % TRIM_EVERY == 1:
            self._trim()

    def events(self, limit: int) -> list[Event]:
        """The newest, oldest first."""
        rows = self._do("SELECT at_unix, name, replica, fields FROM events ORDER BY id DESC LIMIT ?", (limit,))
        return [Event(at_unix, name, replica, json.loads(found)) for at_unix, name, replica, found in reversed(rows)]

    def meta(self, key: str) -> str | None:
        rows = self._do("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set_meta(self, key: str, value: str) -> None:
        self._do("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _do(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows found. Raises StoreError."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None

    def _dropped(self) -> Costs:
        text = self.meta("dropped_costs")
        return Costs() if text is None else Costs(**json.loads(text))

    def _trim(self) -> None:
        self._do("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (KEPT_EVENTS,))
        ended = [row for row in self.replicas() if not row.is_live]
        surplus = ended[: max(0, len(ended) - KEPT_ENDED)]
        if surplus:
            old = self._dropped()
            seconds, usd = sum(row.seconds for row in surplus), sum(row.usd for row in surplus)
            kept = Costs(old.seconds + seconds, old.usd + usd)
            self.set_meta("dropped_costs", json.dumps(asdict(kept)))
            self._db.executemany("DELETE FROM replicas WHERE id = ?", [(row.id,) for row in surplus])
