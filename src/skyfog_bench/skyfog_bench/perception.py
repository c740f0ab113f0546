"""What our services add to a network: their callbacks beside a bare script around onnxruntime, on the same photograph.

Both are processes of one thread that take turns. In each round every case is measured once, in an order drawn from the
seed, so that whatever else the machine does falls on all cases alike. The bare script decodes, resizes and runs; it
does not read the tensors, which is what our callbacks must do beside checking the request and filling in the response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import cv2

from skyfog_bench.measure import figure, quantile, ratio
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_bench.report import Goal, Report, at_most
from skyfog_core.ports import claim_domain
from skyfog_core.rng import stream
from skyfog_perception.manifest import find_model, read_manifest
from skyfog_perception.places import model_folders

BARE_MODULE = "skyfog_bench.baselines.bare_onnx"
SERVICE_MODULE = "skyfog_bench.nodes.perception"
PHOTOGRAPH = "motorcycle_left.png"  # scikit-image's
WIDTH, HEIGHT = 640, 480
JPEG_QUALITY = 90
MODELS = {"detect": "efficientdet_lite0", "segment": "deeplab_v3"}
START_LIMIT_S, ROUND_LIMIT_S = 60.0, 60.0
WARM = 1
LIMIT = 1.15

BARE, OURS = "bare script", "service callback"
STAGES = {BARE: ("decode", "prepare", "inference"), OURS: ("decode and prepare", "inference", "post-processing")}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    calls: int  # of each case in each round


FULL = Size(rounds=30, calls=15)
QUICK = Size(rounds=8, calls=6)

# For each service and side: for each round, for each call its milliseconds, in these columns; the stages follow.
WHOLE, PROCESSOR, FIRST_STAGE = range(3)
DECODE, INFERENCE = FIRST_STAGE, FIRST_STAGE + 2  # of the bare script
Rounds = dict[tuple[str, str], list[list[list[float]]]]


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Measure and judge."""
    say("loading each model twice …")
    rounds = _measure(_start(processes), size, seed, say)
    report = Report("perception", seed)
    report.rows += [_row(case, side, rounds) for case in MODELS for side in (BARE, OURS)]
    report.rows += [row for case in MODELS for side in (BARE, OURS) for row in _stages(case, side, rounds)]
    for case in MODELS:
        report.goals += _goals(case, rounds)
    return report


def write_photograph(path: Path) -> None:
    """Write the JPEG that every call decodes. Raises BenchError where scikit-image is not installed."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise BenchError("scikit-image, which holds the photograph, is not installed: ./ws setup")
    bgr: Any = cv2.imread(str(Path(spec.origin).parent / "data" / PHOTOGRAPH), cv2.IMREAD_COLOR)
    if bgr is None:
        raise BenchError(f"scikit-image has no {PHOTOGRAPH}")
    resized = cv2.resize(bgr, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), resized, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _start(processes: Processes) -> dict[str, Process]:
    """The two processes, when each has answered for both models."""
    image = processes.folder / "photograph.jpg"
    write_photograph(image)
    words = []
    for case, name in MODELS.items():
        folder = find_model(name, model_folders())
        manifest = read_manifest(folder)
        given = manifest.input
        std = 0.0 if given.is_plain else given.std[0]
        words.append(f"{case}={folder / manifest.file}:{given.height}:{std}")
    domain = claim_domain()
    sides = {
        BARE: processes.start("bare_onnx", BARE_MODULE, str(image), *words, domain=domain),
        OURS: processes.start("perception", SERVICE_MODULE, str(image), domain=domain),
    }
    for process in sides.values():
        for case in MODELS:
            process.ask(START_LIMIT_S, do="round", case=case, count=1, warm=WARM)
    return sides


def _measure(sides: Mapping[str, Process], size: Size, seed: int, say: Callable[[str], None]) -> Rounds:
    rounds: Rounds = {(case, side): [] for case in MODELS for side in sides}
    for i in range(size.rounds):
        say(f"round {i + 1} of {size.rounds}")
        order = list(rounds)
        stream(seed, "order", str(i)).shuffle(order)
        for case, side in order:
            asked = {"do": "round", "case": case, "count": size.calls, "warm": WARM}
            rounds[case, side].append(sides[side].ask(ROUND_LIMIT_S, **asked)["calls"])
    return rounds


def _column(rounds: list[list[list[float]]], column: int) -> list[list[float]]:
    """One duration of every call, by round."""
    return [[call[column] for call in one] for one in rounds]


def _row(case: str, side: str, rounds: Rounds) -> dict[str, Any]:
    mine, peer = _column(rounds[case, side], WHOLE), _column(rounds[case, BARE], WHOLE)
    processor = _column(rounds[case, side], PROCESSOR)
    every = [ms for one in mine for ms in one]
    spread, beside = figure([median(one) for one in mine]), ratio(mine, peer)
    return {
        "service": case,
        "side": side,
        "model": MODELS[case],
        "calls": len(every),
        "p50_ms": median(every),
        "low_ms": spread.low,
        "high_ms": spread.high,
        "p99_ms": quantile(every, 0.99),
        "times_bare": beside.value,
        "processor_p50_ms": median(ms for one in processor for ms in one),
        "processor_times_bare": ratio(processor, _column(rounds[case, BARE], PROCESSOR)).value,
    }


def _stages(case: str, side: str, rounds: Rounds) -> list[dict[str, Any]]:
    """Each stage, and for our callbacks what is left: checks, messages, the response."""
    calls = [call for one in rounds[case, side] for call in one]
    parts = {stage: [call[i] for call in calls] for i, stage in enumerate(STAGES[side], start=FIRST_STAGE)}
    if side == OURS:
        parts["checks and messages"] = [call[WHOLE] - sum(call[FIRST_STAGE:]) for call in calls]
    return [
        {"stage_of": f"{case}, {side}", "stage": stage, "p50_ms": median(values), "p99_ms": quantile(values, 0.99)}
        for stage, values in parts.items()
    ]


def _goals(case: str, rounds: Rounds) -> list[Goal]:
    whole = _column(rounds[case, OURS], WHOLE)
    without_prepare = [[call[DECODE] + call[INFERENCE] for call in one] for one in rounds[case, BARE]]
    return [
        at_most(f"{case}: whole callback / bare decode + inference", LIMIT, ratio(whole, without_prepare)),
        at_most(f"{case}: whole callback / bare script", LIMIT, ratio(whole, _column(rounds[case, BARE], WHOLE))),
    ]
