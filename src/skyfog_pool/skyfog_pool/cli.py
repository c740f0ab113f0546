"""`skyfog pool up|status|update|down|logs`."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from skyfog_core.errors import ConfigError, SkyfogError
from skyfog_pool import verbs, views
from skyfog_pool.folders import Folder, find, known
from skyfog_pool.provider.table import provider_name
from skyfog_pool.starting import run_here

EXIT_LATE = 1
EXIT_OPTIONS = 2
EXIT_POOL = 3
REFRESH_S = 1.0
EVENTS_SHOWN, EVENTS_OF_ALL = 8, 100
LEAST_WIDTH = 140

app = typer.Typer(
    help="Replicas on spot and on-demand machines: as many as are wanted, at spot prices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[Path, typer.Argument(help="service file, in SkyServe's form", exists=False)]
Name = Annotated[str | None, typer.Argument(help="of the pool; none: the only one there is")]
GivenName = Annotated[str, typer.Option("--name", help="of the pool; none: the file's `name`, or the file's name")]
GivenProvider = Annotated[str, typer.Option("--provider", help="local, aws, skypilot or ray; none: as the file says")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="ask nothing")]
Limit = Annotated[float, typer.Option("--wait", min=0, max=86_400, help="seconds to wait for it")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="return as soon as the controller has it")]
Metrics = Annotated[str, typer.Option("--metrics", metavar="HOST:PORT", help="the controller serves Prometheus there")]


@app.command()
def up(
    file: File,
    name: GivenName = "",
    provider: GivenProvider = "",
    foreground: Annotated[bool, typer.Option("--foreground", help="be the controller, until Ctrl-C")] = False,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be started, and start nothing")] = False,
    wait: Limit = 1_800.0,
    no_wait: NoWait = False,
    metrics: Metrics = "",
) -> None:
    """Begin a pool, and wait until as many replicas are READY as are wanted. Again with the same file: nothing more."""
    with _errors("up"):
        plan = verbs.plan(file, name, provider)
        before = verbs.current(plan.folder)
        if before is not None and not verbs.is_same(before, plan.spec):
            raise ConfigError(
                f"pool {plan.folder.name} is up with another service file ({before.source}); "
                f"to change it: skyfog pool update {file}" + (f" --name {name}" if name else "")
            )
        _show_plan(plan)
        if dry_run:
            return
        if before is None:
            _confirm(plan, yes)
        elif plan.folder.controller() is not None:
            _say(f"pool {plan.folder.name} is up already with this file")
        else:
            _say(f"pool {plan.folder.name} is up already with this file, but no controller runs: one is started")
        revision = verbs.give(plan, file)
        if foreground:
            raise typer.Exit(_be_controller(plan.folder, metrics))
        _wait_for_up(plan.folder, revision, wait, no_wait, metrics)


@app.command()
def update(
    file: File,
    name: GivenName = "",
    provider: GivenProvider = "",
    force: Annotated[bool, typer.Option("--force", help="replace every replica though nothing has changed")] = False,
    yes: Yes = False,
    wait: Limit = 3_600.0,
    no_wait: NoWait = False,
) -> None:
    """Change a pool: another policy at once, another command or machine replica by replica, never below the target."""
    with _errors("update"):
        plan = verbs.plan(file, name, provider)
        before = verbs.current(plan.folder)
        if before is None:
            raise ConfigError(f"pool {plan.folder.name} is not up; begin it: skyfog pool up {file}")
        if verbs.is_same(before, plan.spec) and not force:
            _say(f"pool {plan.folder.name}: nothing has changed; to replace every replica nevertheless: --force")
        elif not yes and plan.usd_per_hour > 0 and sys.stdin.isatty():
            typer.confirm(f"Change pool {plan.folder.name}?", abort=True)
        revision = verbs.give(plan, file, anew=force)
        if revision.version != before.version:
            _say(f"version {revision.version} rolls out in the place of version {before.version}")
        elif revision != before:
            _say("the change is one of policy: nothing is restarted")
        _wait_for_up(plan.folder, revision, wait, no_wait, "")


@app.command()
def status(
    name: Name = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="again every second, until Ctrl-C")] = False,
    everything: Annotated[bool, typer.Option("--all", help="replicas that have ended too, and more events")] = False,
) -> None:
    """Replicas and why they are what they are, zones, prices, costs against on demand, events. Without a name: all."""
    with _errors("status"):
        console = _console()
        if name is None and len(known()) != 1:
            rows = [verbs.status_of(folder) for folder in known()]
            if as_json:
                console.out(json_module.dumps(rows, indent=2))
            elif rows:
                console.print(views.pools(rows))
            else:
                _say("no pool; begin one with: skyfog pool up FILE")
            return
        folder = find(name)
        if as_json:
            for _ in _again(watch):
                console.out(json_module.dumps(_as_data(folder, everything), indent=None if watch else 2))
        elif watch and console.is_terminal:
            with Live(console=console, auto_refresh=False, screen=False) as live:
                for _ in _again(watch):
                    live.update(_shown(folder, everything), refresh=True)
        else:
            for _ in _again(watch):
                console.print(_shown(folder, everything))


@app.command()
def down(
    name: Name = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="forget its costs, events and what its provider keeps")
    ] = False,
    yes: Yes = False,
    wait: Limit = 1_800.0,
    no_wait: NoWait = False,
) -> None:
    """Drain and give back every machine of a pool, and wait until its provider has none. Also without a controller."""
    with _errors("down"):
        folder = find(name)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Take down pool {folder.name}?", abort=True)
        if verbs.begin_down(folder):
            process = verbs.ensure_controller(folder)
            if no_wait:
                _say(f"pool {folder.name} goes down; to see it: skyfog pool status {folder.name}")
                return
            with _progress() as tell:
                now = verbs.Waiter(folder, wait, tell, process).until("the pool is down", verbs.is_down)
                verbs.Waiter(folder, wait, tell, process).until_ended()
            against = views.saved(now["usd"], now["on_demand_usd"])
            _say(f"pool {folder.name} is down: {views.usd(now['usd'])}" + (f", {against}" if against else ""))
        else:
            _say(f"pool {folder.name} is down already")
        if purge:
            left = verbs.purge(folder)
            kept = f"; what its provider keeps of it stays: {left}" if left else ""
            _say(f"pool {folder.name} is forgotten{kept}")


@app.command()
def logs(
    name: Name = None,
    replica: Annotated[int | None, typer.Option("--replica", min=1, help="what this replica printed")] = None,
    controller: Annotated[bool, typer.Option("--controller", help="what the controller printed; the default")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="more as it comes, until Ctrl-C")] = False,
    lines: Annotated[int, typer.Option("-n", min=1, max=10_000, help="how many lines")] = 100,
) -> None:
    """What a replica or the controller printed."""
    with _errors("logs"):
        folder = find(name)
        if replica is not None and controller:
            raise ConfigError("--replica and --controller exclude each other")

        def read(count: int) -> list[str]:
            return (
                verbs.tail(folder.log, count) if replica is None else list(verbs.replica_logs(folder, replica, count))
            )

        shown = read(lines)
        for line in shown:
            _out(line)
        for _ in _again(follow):
            fresh = read(10_000) if follow else shown
            for line in _new(shown, fresh):
                _out(line)
            shown = fresh


# helpers


@contextlib.contextmanager
def _errors(verb: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _complain(f"skyfog pool {verb}: interrupted; what was begun goes on")
        raise typer.Exit(130) from None
    except SkyfogError as error:
        _complain(f"skyfog pool {verb}: {error}")
        late, options = isinstance(error, verbs.NotInTime), isinstance(error, ConfigError)
        raise typer.Exit(EXIT_LATE if late else EXIT_OPTIONS if options else EXIT_POOL) from None


def _complain(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def _console() -> Console:
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH) if not console.is_terminal else console.width
    return console


def _say(text: str) -> None:
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def _out(line: str) -> None:
    Console(highlight=False, soft_wrap=True).out(line)


def _again(repeat: bool) -> Iterator[None]:
    yield
    tick = threading.Event()
    while repeat:
        tick.wait(REFRESH_S)
        yield


def _new(old: list[str], fresh: list[str]) -> list[str]:
    """What of `fresh`, the newest lines of a log, comes after `old`."""
    if not old:
        return fresh
    for start in range(len(fresh) - 1, -1, -1):
        if fresh[start] == old[-1] and fresh[max(0, start + 1 - len(old)) : start + 1] == old[-(start + 1) :]:
            return fresh[start + 1 :]
    return fresh


def _show_plan(plan: verbs.Plan) -> None:
    policy = plan.spec.service.replica_policy
    counts: dict[tuple[str, str], int] = {}
    for start in plan.starts:
        counts[start.zone, start.market] = counts.get((start.zone, start.market), 0) + 1
    parts = [f"{count} in {zone} ({market})" for (zone, market), count in counts.items()]
    on_demand = plan.on_demand_usd_per_hour
    _say(
        f"pool {plan.folder.name}: {policy.min_replicas} to {policy.most} replicas, placement {policy.spot_placer}, "
        f"{len(plan.zones)} zones: {', '.join(zone.name for zone in plan.zones[:12])}"
        + (", …" if len(plan.zones) > 12 else "")
    )
    _say(
        f"at first {', '.join(parts) or 'nothing'}: {views.usd(plan.usd_per_hour)}/h"
        + (f"; {policy.min_replicas} on demand cost {views.usd(on_demand)}/h" if on_demand else "")
    )
    if plan.strays:
        _say(f"{plan.strays} machines with this pool's tag are not in its books here, and will be given back")


def _confirm(plan: verbs.Plan, yes: bool) -> None:
    """Ask before money is spent, and before machines go that another machine's pool of that name may own."""
    costs = provider_name(plan.spec) != "local"
    if yes or not (plan.strays or costs):
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to confirm it; to go on nevertheless: --yes")
    typer.confirm("Begin it?", abort=True)


def _be_controller(folder: Folder, metrics: str) -> int:
    status = run_here(folder, metrics)
    _say(f"the controller has ended; its machines stay: skyfog pool down {folder.name} gives them back")
    return status


def _wait_for_up(folder: Folder, revision: Any, wait: float, no_wait: bool, metrics: str) -> None:
    process = verbs.ensure_controller(folder, metrics)
    if no_wait:
        _say(f"to see it: skyfog pool status {folder.name}")
        return
    with _progress() as tell:
        now = verbs.Waiter(folder, wait, tell, process).until("the pool is up", verbs.is_up(revision))
    _say(f"pool {folder.name}: {now['ready']} of {now['target']} READY, {views.usd(now['usd_per_hour'])}/h")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Shows replicas as they change: in place on a terminal, else a line for each change."""
    console = _console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda now: live.update(
                views.replicas(now["replicas"]) if now.get("replicas") else Text(now.get("trouble") or "…"),
                refresh=True,
            )
        return
    seen: dict[int, str] = {}
    trouble = [""]

    def tell(now: dict[str, Any]) -> None:
        for each in now.get("replicas", []):
            if seen.get(each["id"]) != each["state"]:
                seen[each["id"]] = each["state"]
                why = f": {each['why']}" if each["why"] else ""
                _say(f"  {each['id']} {each['zone']} {each['market']} {each['state']}{why}")
        told = now.get("trouble") or now.get("holding") or ""
        if told and told != trouble[0]:
            _say(f"  {told}")
        trouble[0] = told

    yield tell


def _as_data(folder: Folder, everything: bool) -> dict[str, Any]:
    now = verbs.status_of(folder)
    if everything:
        now["ended"] = verbs.ended_of(folder)
    found = verbs.events_of(folder, EVENTS_OF_ALL if everything else EVENTS_SHOWN)
    now["events"] = [
        {"at_unix": event.at_unix, "event": event.name, "replica": event.replica, **event.fields} for event in found
    ]
    return now


def _shown(folder: Folder, everything: bool) -> Any:
    now = verbs.status_of(folder)
    gone = verbs.ended_of(folder) if everything else []
    newest = verbs.events_of(folder, EVENTS_OF_ALL if everything else EVENTS_SHOWN)
    return views.status(now, gone, newest, now["controller"], time.time())
