"""`skyfog sim run|replay|pool|fleet`."""

from __future__ import annotations

import json as json_module
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from skyfog_core.clock import SteadyClock
from skyfog_core.config.router import PolicyName, RoutingConfig
from skyfog_pool.policy.place import PLACEMENTS
from skyfog_sim import pool_seeds
from skyfog_sim import replay as plays
from skyfog_sim.cluster import production_router
from skyfog_sim.scale import EVENTS, BigFleet, Metered, ScaleModel
from skyfog_sim.scenario import POLICIES

EXIT_BROKEN = 1
EXIT_OPTIONS = 2

app = typer.Typer(
    help="Simulated fleets: the production policies under faults, one history a seed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _policy(value: str) -> str:
    if value and value not in POLICIES:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(POLICIES)}")
    return value


Policy = Annotated[str, typer.Option("--policy", callback=_policy, help="route by this one, not by what a seed draws")]


def _say(text: str = "") -> None:
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"skyfog sim: {path}: {error.strerror}", markup=False
        )
        raise typer.Exit(EXIT_OPTIONS) from None


def _chosen(policy: str) -> PolicyName | None:
    return next((known for known in POLICIES if known == policy), None)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


@app.command()
def run(
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="how many")] = 2_000,
    first: Annotated[int, typer.Option("--first", min=0, help="the first of them")] = 0,
    policy: Policy = "",
    json: Annotated[
        Path | None, typer.Option("--json", help="write what was met, and what broke, to this file")
    ] = None,
) -> None:
    """Play many seeds. Ends with status 1 if one breaks an invariant, and says how to see it again."""
    began = time.perf_counter()
    tally = plays.run(range(first, first + seeds), _chosen(policy))
    took_s = time.perf_counter() - began
    for failure in tally.failures:
        _say(str(failure))
    _say(f"{tally.seeds} seeds, {tally.events} events, {took_s:.1f} s; {len(tally.failures)} broke an invariant")
    for name, counter in (
        ("policies", tally.policies),
        ("outcomes", tally.outcomes),
        ("sends", tally.sends),
        ("faults", tally.faults),
    ):
        _say(f"  {name:<9} {_counts(counter)}")
    if json is not None:
        _write(json, lambda path: path.write_text(json_module.dumps(tally.as_json(), indent=2) + "\n"))
    raise typer.Exit(EXIT_BROKEN if tally.failures else 0)


@app.command()
def replay(
    seed: Annotated[int, typer.Argument(min=0)],
    policy: Policy = "",
    trace: Annotated[Path | None, typer.Option("--trace", help="write the history to this file, as JSON lines")] = None,
) -> None:
    """Play one seed and print all that happened. Ends with status 1 if an invariant breaks."""
    cluster, why = plays.replay(seed, _chosen(policy))
    for line in [*cluster.scenario.lines(), "", *cluster.history.lines(), ""]:
        _say(line)
    _say(f"BROKEN  {why}" if why else f"every invariant holds; outcomes: {_counts(cluster.check.outcomes)}")
    if trace is not None:
        lines = (json_module.dumps(entry.as_json()) + "\n" for entry in cluster.history.entries)
        _write(trace, lambda path: path.write_text("".join(lines)))
    raise typer.Exit(EXIT_BROKEN if why else 0)


def _placement(value: str) -> str:
    if value and value not in PLACEMENTS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(PLACEMENTS)}")
    return value


@app.command()
def pool(
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="how many")] = 1_000,
    first: Annotated[int, typer.Option("--first", min=0, help="the first of them")] = 0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="play this one alone, and print it")] = None,
    placement: Annotated[
        str, typer.Option("--placement", callback=_placement, help="place by this one, not by what a seed draws")
    ] = "",
    json: Annotated[Path | None, typer.Option("--json", help="write what was met, and what broke")] = None,
) -> None:
    """Pool and router together while markets, provider, network and controller fail. Status 1 if anything breaks."""
    chosen = next((known for known in PLACEMENTS if known == placement), None)
    if seed is not None:
        world, why = pool_seeds.replay(seed, chosen)
        for line in [*world.drawn.lines(), "", *world.history.lines(), ""]:
            _say(line)
        _say(f"BROKEN  {why}" if why else f"every invariant holds; history {world.history.digest()[:16]}")
        raise typer.Exit(EXIT_BROKEN if why else 0)
    began = time.perf_counter()
    tally = pool_seeds.run(range(first, first + seeds), chosen)
    took_s = time.perf_counter() - began
    for failure in tally.failures:
        _say(str(failure))
    _say(f"{tally.seeds} seeds, {tally.events} events, {took_s:.1f} s; {len(tally.failures)} broke an invariant")
    for name, counter in tally.counts.items():
        _say(f"  {name:<10} {_counts(counter)}")
    if json is not None:
        _write(json, lambda path: path.write_text(json_module.dumps(tally.as_json(), indent=2) + "\n"))
    raise typer.Exit(EXIT_BROKEN if tally.failures else 0)


@app.command()
def fleet(
    robots: Annotated[int, typer.Option("--robots", min=1, max=100_000)] = 1_000,
    replicas: Annotated[int, typer.Option("--replicas", min=1, max=10_000)] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3_600, help="of simulated time")] = 10.0,
    churn: Annotated[float, typer.Option("--churn", min=0, max=1_000, help="processes that end, a second")] = 10.0,
    policy: Policy = "",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
) -> None:
    """A fleet at full size while replicas come and go: outcomes, and what the policy itself costs a request."""
    meters: list[Metered] = []

    def make(config: RoutingConfig, *rest: Any) -> Any:
        meters.append(Metered(production_router(config, *rest), SteadyClock()))
        return meters[-1]

    routing = RoutingConfig(policy=_chosen(policy) or RoutingConfig().policy)
    model = ScaleModel(robots, replicas, seconds=seconds, churn_per_s=churn, routing=routing)
    big = BigFleet(model, seed, make)
    began = time.perf_counter()
    big.run()
    took_s = time.perf_counter() - began
    called = max(1, len(big.check.calls))
    spent: Counter[str] = Counter()
    for meter in meters:
        spent.update(meter.spent_ns)
    _say(f"{robots} robots, {replicas} replicas, {seconds:g} s simulated in {took_s:.1f} s, {big.kernel.calls} events")
    _say(f"  requests {called}, outcomes {_counts(big.check.outcomes)}; {big.churned} processes ended")
    _say(f"  sends    {_counts(big.check.sends)}")
    churn_us = (spent["on_join"] + spent["on_leave"]) / 1e3
    own_us = sum(spent[name] for name in EVENTS) / 1e3 - churn_us
    each_us = churn_us / robots / seconds
    _say(f"  policy   {own_us / called:.1f} us a request, {each_us:.1f} us a robot and second for what comes and goes")
