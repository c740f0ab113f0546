"""NEO on two workers of this machine's CPU beside the device alone: the same model, the same small cache on the device.

"Device" is a worker with one core and a cache of a few blocks, "host" another core with a large cache. The device
alone is the default scheduler on the same worker, which may swap to the same host; it leaves the second core idle, as
a GPU leaves its host's. So a third contender is the device alone with both cores. Every request is answered whole by
the engine, with real times; none of it says anything about a GPU.

- `saturated`: all requests at once, by output length.
- `open`: Poisson arrivals at several rates, outputs of mixed lengths. Time per token is a request's whole time over
  its tokens, as in the paper. `rate at equal latency` is the highest rate at which its mean keeps to a limit.
- `overlap`: how long the two workers worked in steps of two batches, and how long those steps took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from skyfog_bench.inference import neo_plot
from skyfog_bench.inference.models import LLAMA_133M, LLAMA_200M, Shape, made
from skyfog_bench.measure import Figure, figure, quantile
from skyfog_bench.processes import BenchError, Processes
from skyfog_bench.report import Goal, Report, at_least
from skyfog_core import extras

if TYPE_CHECKING:
    from skyfog_inference.cost.table import StageTable
    from skyfog_inference.engine import Engine
    from skyfog_inference.models.load import Model
    from skyfog_inference.runner.pipeline import Overlap
    from skyfog_inference.runner.single import Side
    from skyfog_inference.scheduler.base import Scheduler

ALONE, NEO, BOTH_CORES = "device alone", "NEO", "device alone, both cores"
CORES = {ALONE: 1, NEO: 1, BOTH_CORES: 2}  # of the device's worker; NEO's host has the other one
DEVICE_BLOCKS, HOST_BLOCKS = 54, 2_000  # of 16 tokens; the device's are those of the paper's T4
MAX_BATCHED_TOKENS = 832  # its T4's, too
PROMPT = (48, 112)  # tokens, from and to
LIMIT_FACTOR = 2.0  # latency limit: so many times what the device alone takes per token at its lowest rate
GOAL = 1.2
REPLY_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run. Rates are in shares of what the device alone answers when saturated."""

    shape: Shape
    rounds: int  # of saturated runs
    outputs: tuple[int, ...]
    requests: int  # of a saturated run
    open_rounds: int
    open_outputs: tuple[int, int]  # from and to
    rates: tuple[float, ...]
    arrivals: int  # requests of a run at one rate
    quick_table: bool


FULL = Size(LLAMA_200M, 2, (50, 200, 400), 12, 1, (100, 400), (0.75, 1.25, 1.75, 2.5), 16, quick_table=False)
QUICK = Size(LLAMA_133M, 1, (30,), 10, 1, (20, 40), (1.0, 2.0), 6, quick_table=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it comes, in seconds, its prompt and how many tokens it gets."""

    at_s: float
    prompt: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of several requests took."""

    tokens_per_s: float
    ms_per_token: tuple[float, ...]  # of every request
    preemptions: int
    overlap: Overlap | None

    @property
    def mean_ms(self) -> float:
        return float(np.mean(self.ms_per_token))


@dataclass(frozen=True, slots=True)
class Machine:
    """The model, NEO's table, and the caches by the cores of the device's worker."""

    model: Model
    table: StageTable
    device: dict[int, Side]
    host: Side


def run(_processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """With `out`, a picture is written beside that file. Raises ConfigError without the extra `inference`."""
    extras.need("inference", "torch", "safetensors", "tokenizers")
    report = Report("inference_neo", seed)
    machine = set_up(size, say)
    saturated: dict[tuple[int, str], list[Result]] = {}
    for number in range(size.rounds):
        for output in size.outputs:
            asked = drawn(seed + number, size.requests, (output, output), machine.model.config.vocab_size)
            for name in CORES:
                say(f"round {number + 1}: {size.requests} requests of {output} tokens at once, {name} …")
                saturated.setdefault((output, name), []).append(answered(machine, name, asked))
    report.rows += [_saturated_row(output, name, results) for (output, name), results in saturated.items()]
    report.rows.append(_overlap_row([r for (_, name), results in saturated.items() if name == NEO for r in results]))
    base = np.mean([r.tokens_per_s for (_, name), results in saturated.items() if name == ALONE for r in results])
    curves = _open(machine, size, seed, float(base) / (sum(size.open_outputs) / 2), say)
    report.rows += [_open_row(rate, name, results) for name in CORES for rate, results in curves[name].items()]
    report.rows += [_equal_row(name, _equal_latency(curves, name)) for name in (NEO, BOTH_CORES)]
    report.goals += _goals(size, saturated, curves)
    if out is not None:
        neo_plot.draw(saturated, curves, tuple(CORES), out.with_suffix(".png"))
    return report


def set_up(size: Size, say: Callable[[str], None]) -> Machine:
    """Draw the model, cut the caches, measure NEO's table with one core each."""
    import torch  # noqa: PLC0415 - an extra

    from skyfog_core.clock import SteadyClock  # noqa: PLC0415
    from skyfog_inference import profile_neo  # noqa: PLC0415
    from skyfog_inference.assembly_neo import dtype_of, machine  # noqa: PLC0415
    from skyfog_inference.attention.choose import choose  # noqa: PLC0415
    from skyfog_inference.kv_cache import KVCache  # noqa: PLC0415
    from skyfog_inference.models.load import load  # noqa: PLC0415
    from skyfog_inference.runner.single import Side, SingleRunner  # noqa: PLC0415

    model = load(str(made(size.shape, say=say)), "bfloat16")
    cpu, dtype = torch.device("cpu"), torch.bfloat16
    cache = KVCache(model.config, DEVICE_BLOCKS, dtype, cpu)
    device = {cores: Side(cache, choose(cpu, dtype, cores)) for cores in set(CORES.values())}
    host = Side(KVCache(model.config, HOST_BLOCKS, dtype, cpu), choose(cpu, dtype, 1))
    torch.set_num_threads(1)
    whole = profile_neo.Grid(most_tokens=MAX_BATCHED_TOKENS, most_prompt=MAX_BATCHED_TOKENS)
    table = profile_neo.measure_stages(
        SingleRunner(model.config, model.weights, device[1], host),
        machine=machine(),
        dtype=dtype_of(model),
        device_threads=1,
        host_threads=1,
        grid=profile_neo.QUICK if size.quick_table else whole,
        clock=SteadyClock(),
        say=say,
    )
    return Machine(model, table, device, host)


def drawn(seed: int, count: int, outputs: tuple[int, int], vocab: int, rate: float = 0.0) -> list[Asked]:
    """Requests at `rate` a second, the same at every rate; all at once at 0. No two prompts share a block."""
    rng = np.random.default_rng([seed, count, *outputs])
    at_s = 0.0
    asked = []
    for _ in range(count):
        gap = rng.exponential()
        at_s += gap / rate if rate else 0.0
        prompt = rng.integers(3, vocab, rng.integers(PROMPT[0], PROMPT[1] + 1))
        asked.append(Asked(at_s, tuple(prompt.tolist()), int(rng.integers(outputs[0], outputs[1] + 1))))
    return asked


def answered(machine: Machine, name: str, asked: Sequence[Asked]) -> Result:
    """All requests through an engine of their own. Raises BenchError where one is not answered whole."""
    from skyfog_inference.request import SamplingParams  # noqa: PLC0415

    with _engine(machine, name) as (engine, overlap):
        begun = monotonic()
        streams = []
        for one in asked:
            sleep(max(0.0, begun + one.at_s - monotonic()))
            params = SamplingParams(max_tokens=one.output, temperature=0.0, ignore_eos=True)
            streams.append(engine.submit(one.prompt, params))
        if not engine.drain(REPLY_LIMIT_S):
            raise BenchError(f"{name}: requests are not answered within {REPLY_LIMIT_S:.0f} s")
        took_s = monotonic() - begun
        per_token = []
        for one, stream in zip(asked, streams, strict=True):
            usage = stream.usage
            if usage is None or usage.drawn != one.output:
                raise BenchError(f"{name}: a request of {one.output} tokens got {usage}")
            per_token.append(usage.total_ns / 1e6 / usage.drawn)
        preemptions = engine.metrics().scheduler.preemptions
    return Result(sum(one.output for one in asked) / took_s, tuple(per_token), preemptions, overlap)


@contextmanager
def _engine(machine: Machine, name: str) -> Iterator[tuple[Engine, Overlap | None]]:
    """A running engine of one contender."""
    import torch  # noqa: PLC0415 - an extra

    from skyfog_inference.engine import Engine  # noqa: PLC0415
    from skyfog_inference.runner.pipeline import PipelineRunner  # noqa: PLC0415
    from skyfog_inference.runner.single import SingleRunner  # noqa: PLC0415
    from skyfog_inference.scheduler.fcfs import FcfsScheduler  # noqa: PLC0415
    from skyfog_inference.scheduler.neo import NeoScheduler  # noqa: PLC0415
    from skyfog_inference.scheduler.neo_rules import NeoConfig  # noqa: PLC0415

    config, weights, device = machine.model.config, machine.model.weights, machine.device[CORES[name]]
    torch.set_num_threads(CORES[name])
    scheduler: Scheduler
    runner: SingleRunner | PipelineRunner
    if name == NEO:
        limits = NeoConfig(max_batched_tokens=MAX_BATCHED_TOKENS, launch_ms=machine.table.launch_ms)
        scheduler = NeoScheduler(limits, machine.table, DEVICE_BLOCKS, HOST_BLOCKS)
        runner = PipelineRunner(config, weights, device, machine.host)
    else:
        scheduler = FcfsScheduler(DEVICE_BLOCKS, HOST_BLOCKS, max_batched_tokens=MAX_BATCHED_TOKENS)
        runner = SingleRunner(config, weights, device, machine.host)
    engine = Engine(scheduler, runner, vocab_size=config.vocab_size, context=config.max_positions)
    engine.start()
    try:
        yield engine, runner.overlap if isinstance(runner, PipelineRunner) else None
    finally:
        engine.close()


def _open(
    machine: Machine, size: Size, seed: int, base: float, say: Callable[[str], None]
) -> dict[str, dict[float, list[Result]]]:
    """Results by contender and rate. `base`: requests a second that are a rate of 1."""
    curves: dict[str, dict[float, list[Result]]] = {name: {} for name in CORES}
    for number in range(size.open_rounds):
        for share in size.rates:
            rate = share * base
            asked = drawn(seed + number, size.arrivals, size.open_outputs, machine.model.config.vocab_size, rate)
            for name in CORES:
                say(f"round {number + 1}: {rate:.2f} requests a second, {name} …")
                curves[name].setdefault(rate, []).append(answered(machine, name, asked))
    return curves


def rate_within(limit_ms: float, rates: Sequence[float], means_ms: Sequence[float]) -> float:
    """The highest rate at which the mean time per token keeps to the limit, linear between rates that were run.

    Where none keeps to it, so much of the first as its time is above the limit; where all do, the last one.
    """
    best = rates[0] * min(1.0, limit_ms / means_ms[0])
    for (rate, mean), (next_rate, next_mean) in pairwise(zip(rates, means_ms, strict=True)):
        if mean <= limit_ms:
            best = next_rate
            if next_mean > limit_ms:
                best = rate + (next_rate - rate) * (limit_ms - mean) / (next_mean - mean)
    return best


def _equal_latency(curves: dict[str, dict[float, list[Result]]], name: str) -> Figure:
    """How many times the rate of the device alone a contender takes at equal mean time per token, round by round."""
    rates = list(curves[ALONE])
    ratios = []
    for number in range(len(curves[ALONE][rates[0]])):
        means = {who: [curves[who][rate][number].mean_ms for rate in rates] for who in (ALONE, name)}
        limit = LIMIT_FACTOR * means[ALONE][0]
        ratios.append(rate_within(limit, rates, means[name]) / rate_within(limit, rates, means[ALONE]))
    return figure(ratios)


def _goals(
    size: Size, saturated: dict[tuple[int, str], list[Result]], curves: dict[str, dict[float, list[Result]]]
) -> list[Goal]:
    goals = [
        at_least("NEO over the device alone: rate at equal mean time per token", GOAL, _equal_latency(curves, NEO))
    ]
    for output in size.outputs:
        pairs = zip(saturated[output, NEO], saturated[output, ALONE], strict=True)
        ratio = figure([mine.tokens_per_s / theirs.tokens_per_s for mine, theirs in pairs])
        goals.append(at_least(f"NEO over the device alone: throughput, outputs of {output}", 1.0, ratio))
    return goals


def _saturated_row(output: int, name: str, results: Sequence[Result]) -> dict[str, Any]:
    speed = figure([result.tokens_per_s for result in results])
    return {
        "saturated": name,
        "output": output,
        "tokens_per_s": speed.value,
        "low": speed.low,
        "high": speed.high,
        "mean_ms_per_token": figure([result.mean_ms for result in results]).value,
        "preemptions": figure([float(result.preemptions) for result in results]).value,
    }


def _open_row(rate: float, name: str, results: Sequence[Result]) -> dict[str, Any]:
    every = [ms for result in results for ms in result.ms_per_token]
    return {
        "open": name,
        "requests_per_s": rate,
        "tokens_per_s": figure([result.tokens_per_s for result in results]).value,
        "mean_ms_per_token": float(np.mean(every)),
        "p99_ms_per_token": quantile(every, 0.99),
    }


def _equal_row(name: str, ratio: Figure) -> dict[str, Any]:
    return {"equal_latency": name, "rate_over_device_alone": ratio.value, "low": ratio.low, "high": ratio.high}


def _overlap_row(results: Sequence[Result]) -> dict[str, Any]:
    """Of all saturated runs of NEO together."""
    found = [result.overlap for result in results if result.overlap is not None]
    device, host, took = (
        sum(getattr(one, part) for one in found) / 1e9 for part in ("device_ns", "host_ns", "took_ns")
    )
    return {
        "overlap": "steps of two batches",
        "steps": sum(one.steps for one in found),
        "device_s": device,
        "host_s": host,
        "took_s": took,
        "worked_over_took": (device + host) / took if took else 0.0,
    }
