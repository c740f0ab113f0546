"""What `up` and `update` refuse and reckon before they begin."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import NoReturn

import pytest

from skyfog_core.errors import ConfigError
from skyfog_pool import folders, spec, verbs
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Prices
from skyfog_pool.provider.base import Misconfigured
from skyfog_pool.store import Row, Store
from support.pool_world import spec_of

FILE = "name: web\nservice: {replica_policy: {min_replicas: 1}}\nrun: sleep 1\nprovider: "


@pytest.fixture
def has_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a pool that is on the local cloud with one replica, and no provider may be asked."""

    def make(*_: object) -> NoReturn:
        raise Misconfigured("the provider was asked")

    monkeypatch.setenv(folders.STATE_DIR, str(tmp_path))
    monkeypatch.setattr(verbs, "make_provider", make)
    file = tmp_path / "web.yaml"
    file.write_text(f"{FILE}local\n")
    given = spec.load(file)
    with contextlib.closing(Store(folders.folder_of("web").store)) as store, store.transaction():
        store.add_revision(spec.runs_hash(given), spec.to_store(given), str(file), 0.0)
        store.put(Row(1, "t", 1, "a", "spot", State.READY, "", 0.0, instance="i-1"))
    return file


def test_a_pool_with_machines_does_not_change_its_provider(has_machines: Path) -> None:
    has_machines.write_text(f"{FILE}aws\n")
    for wish in ("up", "down"):  # up again while it goes down, too
        with contextlib.closing(Store(folders.folder_of("web").store)) as store, store.transaction():
            store.set_meta("wish", wish)
        with pytest.raises(ConfigError, match=r"pool web has its machines from local, .*--provider local"):
            verbs.plan(has_machines, "", "")
    with pytest.raises(Misconfigured, match="was asked"):
        verbs.plan(has_machines, "", "local")


def test_a_pool_without_machines_may(has_machines: Path) -> None:
    has_machines.write_text(f"{FILE}aws\n")
    with contextlib.closing(Store(folders.folder_of("web").store)) as store, store.transaction():
        store.put(Row(1, "t", 1, "a", "spot", State.TERMINATED, "", 0.0, instance="i-1", ended_unix=1.0))
    with pytest.raises(Misconfigured, match="was asked"):
        verbs.plan(has_machines, "", "")


def test_what_a_purge_could_not_remove_is_said(has_machines: Path) -> None:
    assert verbs.purge(folders.folder_of("web")) == "the provider was asked"
    assert folders.known() == []


def test_a_market_that_is_not_offered_has_no_price(tmp_path: Path) -> None:
    def plan(*on_demand: float) -> verbs.Plan:
        prices = {str(zone): Prices(0.1, usd) for zone, usd in enumerate(on_demand)}
        return verbs.Plan(spec_of(), folders.Folder(tmp_path), [], prices, [], 0)

    target = spec_of().service.replica_policy.min_replicas
    assert plan(math.inf, 2.0).on_demand_usd_per_hour == 2.0 * target
    assert plan(math.inf).on_demand_usd_per_hour == 0.0
