"""NEO in simulated time beside its paper: throughput against the device alone on T4, A10G and H100.

The scheduler is the one that serves; times come from public data sheets with one set of efficiencies
(`skyfog_sim.inference.machines`). Loads are those of the published evaluation: prompts of 1,000 tokens (400 on the T4,
whose longest sequence is 832), outputs of 50 to 400, both within 10 %, all at once, counted between 30 % and 70 % of
the completions. The request rates are Poisson arrivals of the same lengths. All of it is simulated; no GPU has run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from skyfog_bench.measure import quantile
from skyfog_bench.processes import Processes
from skyfog_bench.report import Goal, Report
from skyfog_sim.inference.machines import G4DN, G5, H100, Setting
from skyfog_sim.inference.serving import History, at_once, poisson, serve

OUTPUTS = (50, 100, 200, 300, 400)
PROMPT = {G4DN.name: 400}
LONG_PROMPT = 1_000
PAPER_CURVE = dict(zip(OUTPUTS, (1.04, 1.30, 1.73, 1.79, 1.46), strict=True))  # figure 10a, g5.16xlarge
PAPER_PEAK = {  # figures 9 and 10a
    G4DN.name: 7.5,
    G5["2xlarge"].name: 1.122,
    G5["4xlarge"].name: 1.133,
    G5["8xlarge"].name: 1.297,
    G5["16xlarge"].name: 1.793,
    H100.name: 1.14,
}
LARGEST = G5["16xlarge"].name
SETTINGS = {setting.name: setting for setting in (G4DN, *G5.values(), H100)}
WITHIN = 0.2  # of the published ratios
RATE_OUTPUT = 200  # tokens, of the runs at a request rate


@dataclass(frozen=True, slots=True)
class Size:
    """How much is simulated."""

    requests: Mapping[str, int]  # of a saturated run, by setting; those of the paper are 2,000
    outputs: Mapping[str, tuple[int, ...]]
    rated: tuple[str, ...]  # settings that are also run at request rates
    rates: tuple[float, ...]  # in shares of what the device alone serves when saturated
    arrivals: int


FULL = Size(
    requests={**dict.fromkeys(SETTINGS, 2_000), G4DN.name: 800},
    outputs=dict.fromkeys(SETTINGS, OUTPUTS),
    rated=(G4DN.name, LARGEST),
    rates=(0.5, 0.8, 1.0, 1.2, 1.5, 2.0),
    arrivals=400,
)
QUICK = Size(
    requests={LARGEST: 300, G4DN.name: 60},
    outputs={LARGEST: (50, 200), G4DN.name: (200,)},
    rated=(G4DN.name,),
    rates=(1.0, 2.0),
    arrivals=40,
)


@dataclass(frozen=True, slots=True)
class Point:
    """One run of each scheduler."""

    setting: str
    output: int
    requests: int
    seed: int
    per_s: float | None = None  # None: all at once


Row = dict[str, Any]


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """Simulate, compare and, beside `out`, draw."""
    del processes
    report = Report("inference_sim", seed)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        points = [Point(n, o, size.requests[n], seed) for n, outputs in size.outputs.items() for o in outputs]
        saturated = _played(pool.map(saturate, points), len(points), say)
        alone = {(row["setting"], row["output"]): row["alone_per_s"] for row in saturated}
        rated = [
            Point(name, RATE_OUTPUT, size.arrivals, seed, share * alone[name, RATE_OUTPUT])
            for name in size.rated
            for share in size.rates
        ]
        arriving = _played(pool.map(at_rate, rated), len(rated), say)
    report.rows += saturated + arriving
    report.goals += goals(saturated)
    if out is not None:
        from skyfog_bench.inference import simulator_plot  # noqa: PLC0415 - matplotlib takes a second to import

        simulator_plot.draw(saturated, arriving, PAPER_CURVE, out)
    return report


def _played(rows: Iterable[Row], count: int, say: Callable[[str], None]) -> list[Row]:
    done = []
    for row in rows:
        done.append(row)
        say(f"{len(done)} of {count}: {row['setting']}, outputs of {row['output']}")
    return done


def saturate(point: Point) -> Row:
    """All requests at once on both."""
    setting = SETTINGS[point.setting]
    prompt = PROMPT.get(point.setting, LONG_PROMPT)
    asks = at_once(random.Random(point.seed), point.requests, prompt, point.output)
    alone = serve(setting.alone(), setting.cost, asks)
    neo = serve(setting.neo(), setting.cost, asks)
    ratio = neo.throughput() / alone.throughput()
    paper = PAPER_CURVE[point.output] if point.setting == LARGEST else None
    return {
        "setting": point.setting,
        "output": point.output,
        "requests": point.requests,
        "alone_per_s": alone.throughput(),
        "neo_per_s": neo.throughput(),
        "ratio": ratio,
        "paper": paper,
        "two_batches": neo.two_batches / neo.steps,
        "on_host": neo.host_tokens / neo.tokens,
    }


def at_rate(point: Point) -> Row:
    """Poisson arrivals on both."""
    assert point.per_s is not None
    setting: Setting = SETTINGS[point.setting]
    prompt = PROMPT.get(point.setting, LONG_PROMPT)
    asks = poisson(random.Random(point.seed), point.requests, point.per_s, prompt, point.output)
    row: Row = {"setting": point.setting, "output": point.output, "per_s": point.per_s}
    for name, scheduler in (("alone", setting.alone()), ("neo", setting.neo())):
        row |= _latency(name, serve(scheduler, setting.cost, asks))
    return row


def _latency(name: str, history: History) -> Row:
    """Time per token of the last three quarters of the requests, as published."""
    served = sorted(history.served, key=lambda one: one.ask.at_ns)[len(history.served) // 4 :]
    took = [one.ms_per_token for one in served]
    return {f"{name}_mean_ms": sum(took) / len(took), f"{name}_p99_ms": quantile(took, 0.99)}


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Within 20 % of each published ratio, and the same shape; not known where a sweep is not whole."""
    found: list[Goal] = []
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        curves.setdefault(row["setting"], {})[row["output"]] = row["ratio"]
    for name, paper in PAPER_PEAK.items():
        curve = curves.get(name, {})
        title = f"{name}: highest ratio off the paper's {paper}"
        if set(curve) == set(OUTPUTS):
            found.append(Goal(title, WITHIN, abs(max(curve.values()) / paper - 1)))
        else:
            found.append(Goal(title, WITHIN, None, why="needs every output length"))
    curve = curves.get(LARGEST, {})
    for output, paper in PAPER_CURVE.items():
        off = abs(curve[output] / paper - 1) if output in curve else None
        why = "" if off is not None else "this length was not run"
        found.append(Goal(f"{LARGEST}: ratio at outputs of {output} off the paper's {paper}", WITHIN, off, why=why))
    whole = set(curve) == set(OUTPUTS)
    peak = max(curve, key=curve.__getitem__) if whole else None
    off_peak = None if peak is None else float(min(abs(peak - 200), abs(peak - 300)))
    why = "" if whole else "needs every output length"
    found.append(Goal(f"{LARGEST}: its peak lies at outputs of 200 to 300", 0, off_peak, unit="tokens off", why=why))
    return found
