"""The store: all or nothing, versions, bounds, and time across restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyfog_pool import store as stores
from skyfog_pool.lifecycle import State
from skyfog_pool.store import Event, Row, Stamp, Store, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "pool.sqlite")
    yield store
    store.close()


def row(number: int, **changes: object) -> Row:
    made = Row(number, f"token-{number}", 1, "zone-a", "spot", State.READY, "because", 1.0, seconds=10.0, usd=0.5)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_what_is_put_is_there_after_a_restart(store: Store) -> None:
    with store.transaction():
        store.put(row(1, instance="i-1", ready_unix=2.0))
        store.put(row(2, state=State.PREEMPTED, ended_unix=9.0))
    again = Store(store.path)
    assert again.replicas() == [row(1, instance="i-1", ready_unix=2.0), row(2, state=State.PREEMPTED, ended_unix=9.0)]
    assert [each.id for each in again.replicas(live=True)] == [1]
    again.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    whole = Store(tmp_path / "pool.sqlite")
    with whole.transaction():
        for number in range(500):
            whole.put(row(number))
    whole.close()
    with (tmp_path / "pool.sqlite").open("r+b") as file:
        file.seek(4_096)  # behind the first page, which says what the file is
        file.write(b"\xff" * 65_536)
    damaged = Store(tmp_path / "pool.sqlite")
    with pytest.raises(StoreError, match=r"pool\.sqlite: "):
        damaged.replicas()
    with pytest.raises(StoreError, match=r"pool\.sqlite: "):
        damaged.meta("wish")
    damaged.close()


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.transaction():
            store.put(row(1))
            store.note(Event(0.0, "launch", 1, {}))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.replicas() == []
    assert store.events(10) == []
    with store.transaction():  # and the next one works
        store.put(row(2))
    assert [each.id for each in store.replicas()] == [2]


def test_two_replicas_never_share_a_token(store: Store) -> None:
    """One that comes takes the place of the other: nothing asks for it twice."""
    with store.transaction():
        store.put(row(1))
        store.put(row(2, token="token-1"))
    assert len({each.token for each in store.replicas()}) == len(store.replicas())


def test_what_runs_is_numbered_and_what_ran_before_has_its_number_again(store: Store) -> None:
    with store.transaction():
        versions = [store.add_revision(runs, f"{{{index}}}", "f", 0.0).version for index, runs in enumerate("aabca")]
        anew = store.add_revision("a", "{}", "f", 0.0, anew=True)
    assert versions == [1, 1, 2, 3, 1]
    assert (anew.revision, anew.version) == (6, 4)
    assert [revision.revision for revision in store.revisions()] == [1, 2, 3, 4, 5, 6]


def test_events_and_ended_replicas_are_bounded_and_costs_are_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "KEPT_EVENTS", 20)
    monkeypatch.setattr(stores, "KEPT_ENDED", 3)
    monkeypatch.setattr(stores, "TRIM_EVERY", 5)
    with store.transaction():
        for number in range(1, 11):
            store.put(row(number, ended_unix=1.0, state=State.TERMINATED))
        for number in range(101):
            store.note(Event(float(number), "state", None, {"n": number}))
    assert len(store.events(1_000)) <= 25
    assert store.events(2)[-1].fields == {"n": 100}
    assert [each.id for each in store.replicas()] == [8, 9, 10]
    assert (store.costs().seconds, store.costs().usd) == (pytest.approx(100.0), pytest.approx(5.0))


def test_another_process_is_seen_and_we_are_not(store: Store) -> None:
    other = Store(store.path)
    before = store.changed_by_others()
    with store.transaction():
        store.set_meta("wish", "up")
    assert store.changed_by_others() == before
    with other.transaction():
        other.set_meta("wish", "down")
    assert store.changed_by_others() != before
    assert store.wish() == "down"
    other.close()


def test_a_later_or_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    later = sqlite3.connect(tmp_path / "later.sqlite")
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(StoreError, match=r"later\.sqlite: written by a later Skyfog \(schema 99"):
        Store(tmp_path / "later.sqlite")
    (tmp_path / "broken.sqlite").write_text("no database at all, but long enough to be read as one" * 20)
    with pytest.raises(StoreError, match=r"broken\.sqlite"):
        Store(tmp_path / "broken.sqlite")


def test_time_is_steady_within_a_boot_and_never_negative_across() -> None:
    first = Stamp("boot-1", 5_000_000_000, 1_000.0)
    assert Stamp("boot-1", 8_000_000_000, 0.0).elapsed_s(first) == 3.0  # the wall clock jumped: no matter
    assert Stamp("boot-2", 1, 1_060.0).elapsed_s(first) == 60.0
    assert Stamp("boot-2", 1, 900.0).elapsed_s(first) == 0.0
    assert Stamp.parse(str(first)) == first
    assert Stamp.parse("") is None
