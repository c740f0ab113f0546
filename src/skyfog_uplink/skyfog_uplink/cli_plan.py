"""What `skyfog uplink plan` prints: the plan for a link that is told, and what plans are worth over the bandwidth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table as Grid
from rich.text import Text

from skyfog_core.config.uplink import AllocatorConfig
from skyfog_core.errors import ConfigError
from skyfog_uplink.policy.allocate import Allocator
from skyfog_uplink.policy.baselines import equal_split, on_car, one_model
from skyfog_uplink.policy.formulate import Formulation
from skyfog_uplink.policy.link import LEVELS, LinkState
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.plan import Allocation, Plan
from skyfog_uplink.policy.scenes import Scenes
from skyfog_uplink.policy.turbo import turbo

Floats = NDArray[np.float64]

TOLD = (0.05, 0.5, 0.9)  # the quantiles that --mbps takes
MOST_MBPS = 10_000.0
SWEEP_FROM_MBPS = 0.05
SWEEP_POINTS = 25
BAR = 40  # characters

WAYS: dict[str, Callable[[Table], Allocation]] = {
    "skyfog": lambda table: Allocator(table, AllocatorConfig(hold_ms=0)),  # as it is once the link is known
    "TURBO": turbo,
    "equal split": equal_split,
    "one model": one_model,
    "on car": on_car,
}


def parse_rates(text: str) -> tuple[float, ...]:
    """`10`, or `2,10,20`: 5 %, 50 % and 90 % of the time the link is slower. [LEVELS] in bit/s. Raises ConfigError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    good = len(numbers) in {1, len(TOLD)} and all(0 < number <= MOST_MBPS for number in numbers)
    if not good or numbers != sorted(numbers):
        raise ConfigError(
            f"--mbps: should be one number of Mbit/s, or three that do not fall (slower than that 5, 50 and 90 % of"
            f" the time), above 0 and up to {MOST_MBPS:g}, not {text!r}"
        )
    if len(numbers) == 1:
        return (numbers[0] * 1e6,) * len(LEVELS)
    low, middle, high = (math.log(number) for number in numbers)
    slope = (middle - low) / (math.log(TOLD[1]) - math.log(TOLD[0]))  # as steep below the first
    found = [
        np.interp(level, TOLD[1:], (middle, high)) if level >= TOLD[1] else middle + slope * math.log(level / TOLD[1])
        for level in LEVELS
    ]
    return tuple(float(1e6 * math.exp(value)) for value in found)


def link_of(rates_bps: Sequence[float], rtts_ms: Sequence[float]) -> LinkState:
    """A link that is up and idle."""
    return LinkState(0, True, tuple(rates_bps), tuple(rtts_ms), rtts_ms[0], rtts_ms[0])


def plan_of(table: Table, link: LinkState, scene: str, speed_mps: float) -> Plan:
    """Ours. Raises ConfigError for a scene that the table does not have."""
    known = [each.name for each in table.scenes]
    if scene and scene not in known:
        raise ConfigError(f"--scene: {scene!r} is not in the table (known: {', '.join(known) or 'none'})")
    allocator = WAYS["skyfog"](table)
    allocator.on_scene(scene, speed_mps, 0)
    made = allocator.on_link(link, 0)
    assert made is not None
    return made


def show_plan(table: Table, plan: Plan) -> Iterator[Text | Grid]:
    """A row a service."""
    granted = sum(grant.rate_bps for grant in plan.grants)
    yield Text(
        f"{granted / 1e6:.2f} of {plan.budget_bps / 1e6:.2f} Mbit/s granted; expected utility {plan.utility:.3f}"
    )
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("service", "option"):
        grid.add_column(name, overflow="fold")
    for name in ("accuracy", "Mbit/s", "in time"):
        grid.add_column(name, justify="right")
    for name in ("probe", "why not better"):
        grid.add_column(name, overflow="fold")
    for service, grant in zip(table.services, plan.grants, strict=True):
        on_floor = grant.option == FLOOR
        grid.add_row(
            service.name,
            f"{service.floor.model}, on the car" if on_floor else service.options[grant.option].name,
            f"{service.accuracy(grant.option):.3f}",
            "" if on_floor else f"{grant.rate_bps / 1e6:.2f}",
            "" if on_floor else f"{100 * grant.on_time:.1f} %",
            "" if grant.probe == FLOOR else service.options[grant.probe].name,
            grant.why,
            style="dim" if on_floor else "",
        )
    yield grid


def plan_json(table: Table, plan: Plan) -> str:
    """The same for other programs."""
    grants = [
        {
            "service": grant.service,
            "option": None if grant.option == FLOOR else service.options[grant.option].name,
            "accuracy": service.accuracy(grant.option),
            "rate_bps": grant.rate_bps,
            "on_time": grant.on_time,
            "probe": None if grant.probe == FLOOR else service.options[grant.probe].name,
            "why": grant.why,
        }
        for service, grant in zip(table.services, plan.grants, strict=True)
    ]
    return json.dumps({"budget_bps": plan.budget_bps, "utility": plan.utility, "grants": grants})


def sweep(table: Table, rtts_ms: Sequence[float], scene: str, speed_mps: float) -> tuple[Floats, dict[str, Floats]]:
    """Rates in Mbit/s [points], and by way to share [points] what its plans are worth on links of just that rate.

    Worth: the mean accuracy by weight, a late answer being the floor's; the same measure for all.
    """
    scenes = Scenes(table)
    scenes.tell(scene, speed_mps)
    needs = Formulation(table).under(rtts_ms)
    finite = np.where(np.isfinite(needs.needed_bps), needs.needed_bps, 0.0)
    most = max(float(finite.max(axis=1).sum()) / 1e6, 2 * SWEEP_FROM_MBPS)
    rates = np.geomspace(SWEEP_FROM_MBPS, most, SWEEP_POINTS)
    worths = {name: np.zeros(len(rates)) for name in WAYS}
    services = np.arange(len(table.services))
    floors = np.array([service.floor.accuracy for service in table.services])
    for at, mbps in enumerate(rates.tolist()):
        link = link_of((mbps * 1e6,) * len(LEVELS), rtts_ms)
        for name, make in WAYS.items():
            way = make(table)
            way.on_scene(scene, speed_mps, 0)
            plan = way.on_link(link, 0)
            assert plan is not None
            granted = np.array([grant.rate_bps for grant in plan.grants])
            granted *= mbps * 1e6 / max(float(granted.sum()), 1e-9)  # whoever sends leaves nothing of the link unused
            on_time = needs.on_time(services, [grant.option for grant in plan.grants], granted)
            accuracy = [s.accuracy(g.option) for s, g in zip(table.services, plan.grants, strict=True)]
            worth = scenes.weights * (floors + on_time * (np.array(accuracy) - floors))
            worths[name][at] = worth.sum() / max(scenes.weights.sum(), 1e-12)
    return rates, worths


def show_sweep(rates: Floats, worths: dict[str, Floats]) -> Iterator[Text | Grid]:
    """A row a rate; a bar for ours between the least and the most that any has."""
    yield Text("mean accuracy by weight of plans for links of just this rate; late answers count as the floor's")
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("Mbit/s", *worths):
        grid.add_column(name, justify="right")
    grid.add_column("skyfog")
    every = np.stack(list(worths.values()))
    low, span = every.min(), max(float(every.max() - every.min()), 1e-9)
    for at, mbps in enumerate(rates.tolist()):
        bar = "█" * round(BAR * float(worths["skyfog"][at] - low) / span)
        grid.add_row(f"{mbps:.2f}", *(f"{worth[at]:.4f}" for worth in worths.values()), bar)
    yield grid


def draw_sweep(rates: Floats, worths: dict[str, Floats], title: str, path: Path) -> None:
    """The same as a picture."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and needed for pictures only

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, worth in worths.items():
        axes.step(rates, worth, where="post", label=name, linewidth=2.2 if name == "skyfog" else 1.2)
    axes.set(xscale="log", xlabel="link, Mbit/s", ylabel="mean accuracy by weight", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
