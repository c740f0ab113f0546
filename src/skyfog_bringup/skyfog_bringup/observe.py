"""The verbs that only look: `skyfog status`, `skyfog replicas`, `skyfog trace`, `skyfog uplink status`."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from skyfog_bringup import tables, uplink_tables
from skyfog_bringup.timeline import Newest, Request, Slowest, Timelines, Wanted, timeline
from skyfog_core.errors import ConfigError, SkyfogError
from skyfog_core.trace import Follower

LEAST_WIDTH = 120  # of tables: on a narrower terminal lines are wrapped, but no figure is cut
REFRESH_S = 1.0
FOLLOW_S = 0.2
NEWEST = 5  # requests shown where nobody says which
MOST = 1_000

NO_ROBOT = "no robot told its state within {:g} s: is a robot_proxy running, with this ROS_DOMAIN_ID?"
NO_CAR = "no car told its state within {:g} s: is a shaper running, with this ROS_DOMAIN_ID?"

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class States(Protocol[R_co]):
    """Who hears the robots, or the cars; see nodes/states.py."""

    def first(self, limit_s: float) -> Sequence[R_co]: ...
    def listen(self, seconds: float) -> None: ...
    def reports(self) -> Sequence[R_co]: ...


def _ros(whom: str) -> AbstractContextManager[States[Any]]:
    try:
        states = importlib.import_module("skyfog_bringup.nodes.states")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} cannot be imported: source the workspace, or ./ws shell") from None
    listener: AbstractContextManager[States[Any]] = getattr(states, whom)()
    return listener


def status(console: Console, as_json: bool, watch: bool, limit_s: float) -> None:
    """Raises SkyfogError where nobody tells its state within `limit_s`."""
    with _ros("robots") as states:
        found = _found(states, NO_ROBOT, limit_s)
        _show(console, states, found, tables.status_table, tables.plain, as_json, watch)


def replicas(console: Console, as_json: bool, watch: bool, limit_s: float) -> None:
    """Raises SkyfogError where nobody tells its state within `limit_s`."""
    with _ros("robots") as states:
        found = _found(states, NO_ROBOT, limit_s)
        _show(console, states, found, tables.replicas_table, tables.plain_replicas, as_json, watch)


def uplink(console: Console, as_json: bool, watch: bool, limit_s: float) -> None:
    """Raises SkyfogError where nobody tells its state within `limit_s`."""
    with _ros("cars") as states:
        found = _found(states, NO_CAR, limit_s)
        _show(console, states, found, uplink_tables.status_table, uplink_tables.plain, as_json, watch)


def _found(states: States[R], nobody: str, limit_s: float) -> Sequence[R]:
    found = states.first(limit_s)
    if not found:
        raise SkyfogError(nobody.format(limit_s))
    return found


def _show(
    console: Console,
    states: States[R],
    found: Sequence[R],
    table: Callable[[Sequence[R]], RenderableType],
    plain: Callable[[Sequence[R]], list[dict[str, Any]]],
    as_json: bool,
    watch: bool,
) -> None:
    console.width = max(console.width, LEAST_WIDTH)
    if as_json:
        for reports in _again(states, found, watch):
            console.out(json.dumps(plain(reports), indent=None if watch else 2))
    elif watch and console.is_terminal:
        with Live(table(found), console=console, auto_refresh=False) as live:
            for reports in _again(states, found, watch):
                live.update(table(reports), refresh=True)
    else:
        for reports in _again(states, found, watch):
            console.print(table(reports))


def _again(states: States[R], found: Sequence[R], watch: bool) -> Iterator[Sequence[R]]:
    yield found
    while watch:
        states.listen(REFRESH_S)
        yield states.reports()


def trace(console: Console, file: Path, wanted: Mapping[str, Any], slowest: int, follow: bool) -> None:
    """Print the wanted requests of a trace, then a summary of all. Raises ConfigError for a file that is no trace."""
    if not follow and not file.is_file():
        raise ConfigError(f"{file}: no such file; robot_proxy writes one where its parameter `trace` says")
    wants = Wanted(**wanted)
    follower, timelines = Follower(file), Timelines()
    if follow:
        try:
            while True:
                _print_new(console, file, follower, timelines, wants)
                time.sleep(FOLLOW_S)
        except KeyboardInterrupt:
            pass
    else:
        filtered = bool(wants.id_prefix) or wants.failed_only
        kept = Slowest(slowest) if slowest else Newest(MOST if filtered else NEWEST)
        for request in _ended(file, follower, timelines):
            if wants(request):
                kept.add(request)
        open_ones = [request for request in timelines.open.values() if wants.id_prefix and wants(request)]
        for request in [*kept.requests(), *open_ones]:
            _print_timeline(console, request)
        if wants.id_prefix and not kept.requests() and not open_ones:
            raise ConfigError(f"--id {wants.id_prefix}: no request of {file} begins so")
    for part in tables.summaries(timelines.summaries, len(timelines.open)):
        console.print(part)


def _ended(file: Path, follower: Follower, timelines: Timelines) -> Iterator[Request]:
    for event in follower.lines():
        try:
            request = timelines.add(event)
        except KeyError as error:
            raise ConfigError(f"{file}: not the trace of a robot_proxy: an event without {error}: {event}") from None
        if request is not None:
            yield request


def _print_new(console: Console, file: Path, follower: Follower, timelines: Timelines, wants: Wanted) -> None:
    for request in _ended(file, follower, timelines):
        if wants(request):
            _print_timeline(console, request)


def _print_timeline(console: Console, request: Request) -> None:
    for line in timeline(request):
        console.print(line, markup=False, soft_wrap=True)
