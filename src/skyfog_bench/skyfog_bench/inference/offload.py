"""`skyfog bench inference_offload`: a mixture of experts larger than the memory that it may have.

A random Mixtral under a memory cap of about half its size (cgroup; cached files are charged to it, and what was cached
before is thrown out first). Ours in CGOPipe's order beside the same without overlap, accelerate's disk offload and
llama.cpp's mmap, each in a process of its own under the same cap, one after another, in rounds; the paper's other task
orders once. Prompts of 32 random tokens, greedy; figures are of decode. The bound is that of the roofline model for the
policy that ours runs, on this machine as measured in the cap, with the disk's rate of just before each batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from skyfog_bench.cgroup import MemoryCap
from skyfog_bench.inference import offload_plot
from skyfog_bench.inference.gguf_file import gguf_of
from skyfog_bench.inference.models import MIXTRAL_4GB, MIXTRAL_489M, Shape, made, models_root
from skyfog_bench.inference.offload_worker import prompts_of
from skyfog_bench.measure import Figure, figure, ratio
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_bench.report import Goal, Report, at_least
from skyfog_core import extras
from skyfog_core.environments import INSTALL_COMMAND, python_of
from skyfog_core.errors import ConfigError

WORKER = "skyfog_bench.inference.offload_worker"
PROMPT = 32  # tokens
LOAD_LIMIT_S, STEP_LIMIT_S = 600.0, 60.0
OVER_ACCELERATE, OVER_LLAMA_CPP, OF_BOUND = 1.5, 3.0, 0.85
LLAMA_CPP = Path(__file__).parent.parent / "baselines" / "llama_cpp.py"
LLAMA_BATCH, LLAMA_STEPS = 8, 3  # and the one of the goals; it may take minutes,
LLAMA_LIMIT_S = 240.0  # but no more than this for one batch, and one round only
LLAMA_CONTEXT = 256  # tokens, the least that it takes
OURS, ACCELERATE, LLAMA = "ours, CGOPipe", "accelerate", "llama.cpp"


@dataclass(frozen=True, slots=True)
class Size:
    """What is run."""

    shape: Shape
    cap: int  # bytes
    batches: tuple[int, ...]
    at: int  # the batch of them that the goals are about
    steps: int  # of decode, each contestant and batch
    again: int  # further rounds of that batch alone
    orders: tuple[str, ...] = ()  # of tasks, besides CGOPipe's: that batch, once
    sample: int = 128 << 20  # bytes of a read that measures the disk, and of memory that is read


FULL = Size(MIXTRAL_4GB, 2_000_000_000, (1, 8, 32, 128, 256), at=128, steps=4, again=2, orders=("S2", "S3", "S4"))
QUICK = Size(MIXTRAL_489M, 1_100_000_000, (32,), at=32, steps=4, again=0)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who runs, and the first job of its process."""

    name: str
    job: Mapping[str, Any]
    steps: int | None = None  # of decode, where it is not the size's
    batches: tuple[int, ...] | None = None
    python: Path | None = None  # of llama.cpp's environment
    limit_s: float | None = None  # for one batch
    once: bool = False  # not in further rounds


@dataclass(slots=True)
class Result:
    """One contestant at one batch: the answers of all rounds."""

    contestant: str
    batch: int
    answers: list[dict[str, Any]] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def rounds(self) -> list[list[float]]:
        """Seconds of every step, by round."""
        return [answer["steps_s"] for answer in self.answers]

    @property
    def tokens_per_s(self) -> Figure:
        """Of decode: median and quartiles over all steps."""
        return figure([self.batch / step for steps in self.rounds for step in steps])


Results = dict[tuple[str, int], Result]


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None], out: Path | None = None) -> Report:
    """Raises ConfigError where torch or accelerate is not there, BenchError where a memory cap is not permitted."""
    extras.need("inference", "torch", "safetensors", "tokenizers", "accelerate")
    folder = made(size.shape, say=say)
    packed = packed_of(folder, say)
    folders = folder, packed, folder.parent  # the last one for llama.cpp's file
    machine = measured(processes, size, packed, say)
    results: Results = {}
    failed: dict[str, str] = {}
    for number in range(1 + size.again):
        for contestant in contestants(size, folder, packed, machine, processes.folder):
            batches = contestant.batches or size.batches
            if number:
                batches = (size.at,) if size.at in batches and not contestant.once else ()
            try:
                compete(processes, size, contestant, batches, folders, seed, results, say)
            except BenchError as error:  # a peer may not fit the cap
                if contestant.job.get("contestant") == "ours":
                    raise
                failed[contestant.name] = str(error).partition("\n")[0]
                say(failed[contestant.name])
    report = Report("inference_offload", seed)
    report.rows += [machine_row(machine)]
    report.rows += [row(result, size) for result in results.values()]
    report.goals += goals(results, size, failed)
    if out is not None:
        offload_plot.draw(report.rows[1:], out.with_suffix(".png"))
    return report


def packed_of(folder: Path, say: Callable[[str], None]) -> Path:
    """The model's pages, made now where they are not there."""
    from skyfog_inference.weights.pages import pack, read_index  # noqa: PLC0415 - imports torch

    packed = models_root() / f"{folder.name}.packed"
    try:
        read_index(packed)
    except ConfigError:
        say(f"packing {folder.name} …")
        pack(folder, packed)
    return packed


def contestants(
    size: Size, folder: Path, packed: Path, machine: Mapping[str, Any], scratch: Path
) -> Iterable[Contestant]:
    """Ours first."""
    ours = {
        "contestant": "ours",
        "folder": str(packed),
        "machine": machine,
        "cap": size.cap,
        "sample": size.sample,
        "experts": "all",
        "overlap": True,
        "order": "S1",
    }
    yield Contestant(OURS, ours)
    yield Contestant("ours, no overlap", {**ours, "overlap": False})
    for order in size.orders:
        yield Contestant(in_order(order), {**ours, "order": order}, batches=(size.at,), once=True)
    if 1 in size.batches:
        yield Contestant("ours, chosen experts only", {**ours, "experts": "routed"}, batches=(1, 8))
    offload = scratch / "accelerate"
    job = {"contestant": "accelerate", "folder": str(folder), "offload_folder": str(offload)}
    yield Contestant(ACCELERATE, job | {"layers": size.shape.layers}, steps=3)
    if (python := python_of("llamacpp")) is not None:
        for batch in sorted(set(size.batches) & {LLAMA_BATCH, size.at}):  # each in a process with memory for that one
            of = {"model": str(gguf_of(size.shape, folder)), "most": batch, "context": LLAMA_CONTEXT}
            of["batched_tokens"] = batch * LLAMA_CONTEXT  # all prompts at once
            yield Contestant(LLAMA, of, LLAMA_STEPS, (batch,), python, LLAMA_LIMIT_S, once=True)


def in_order(order: str) -> str:
    """Ours with another order of its tasks."""
    return f"ours, {order}"


def measured(processes: Processes, size: Size, packed: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The machine in the cap, as the roofline model wants it."""
    say("measuring disk, memory and products …")
    process, cap = started(processes, "machine", size.cap)
    job = {"contestant": "machine", "folder": str(packed), "sample": size.sample}
    try:
        answer = process.ask(LOAD_LIMIT_S, **job, threads=_threads())
    finally:
        ended(processes, process, cap)
    machine: dict[str, Any] = answer["machine"]
    return machine


def compete(
    processes: Processes,
    size: Size,
    contestant: Contestant,
    batches: tuple[int, ...],
    folders: Iterable[Path],
    seed: int,
    results: Results,
    say: Callable[[str], None],
) -> None:
    """One contestant, its batches in turn, in one process under the cap."""
    if not batches:
        return
    evict(folders)
    process, cap = started(processes, contestant.name, size.cap, contestant.python)
    try:
        process.ask(LOAD_LIMIT_S, **contestant.job, threads=_threads())
        for batch in batches:
            steps = contestant.steps or size.steps
            prompts = prompts_of(batch, PROMPT, size.shape.vocab, seed)
            limit_s = contestant.limit_s or STEP_LIMIT_S * (steps + 2)
            answer = process.ask(limit_s, prompts=prompts, steps=steps)
            answer.setdefault("steps_s", [answer.get("decode_s", 0.0) / steps] * steps)  # where it knows the mean only
            result = results.setdefault((contestant.name, batch), Result(contestant.name, batch))
            result.answers.append(answer)
            result.peak_mb = max(result.peak_mb, cap.peak_bytes() / 1e6)
            say(f"{contestant.name}, batch {batch}: {result.tokens_per_s.value:.1f} tok/s")
    finally:
        ended(processes, process, cap)


def started(processes: Processes, name: str, cap: int, python: Path | None = None) -> tuple[Process, MemoryCap]:
    """A worker that has its cap, and nothing else yet. Raises BenchError where there can be none."""
    log = name.replace(" ", "_")
    if python is None:
        process = processes.start(log, WORKER, domain=0)
    else:
        process = processes.start_script(log, python, LLAMA_CPP)
    return process, MemoryCap(process.pid, cap)


def ended(processes: Processes, process: Process, cap: MemoryCap) -> None:
    """Gone, with its group."""
    processes.end([process])
    cap.remove()


def evict(folders: Iterable[Path]) -> None:
    """Throw their files out of the page cache: what is cached already is charged to nobody."""
    for path in (path for folder in folders for path in folder.iterdir() if path.is_file()):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def machine_row(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the bound stands on."""
    device = machine["device"]
    return {
        "disk_gb_s": machine["link"] / 1e9,
        "ram_gb_s": device["bandwidth"] / 1e9,
        "bf16_gflop_s": device["flops"] / 1e9,
    }


def row(result: Result, size: Size) -> dict[str, Any]:
    """One contestant at one batch."""
    first = result.answers[0]
    rate = result.tokens_per_s
    bound = first.get("bound_s")
    return {
        "engine": result.contestant,
        "batch": result.batch,
        "tok_s": rate.value,
        "low": rate.low,
        "high": rate.high,
        "steps": sum(map(len, result.rounds)),
        "step_s": median(step for steps in result.rounds for step in steps),
        "prefill_s": first["prefill_s"],
        "bound_tok_s": result.batch / bound if bound else None,
        "disk_gb_s": first.get("disk_gb_s"),
        "r_w": first.get("r_w"),
        "at_once": first.get("at_once"),
        "micro_batch": first.get("micro_batch"),
        "read_gb": first["read_mb"] / 1e3 if "read_mb" in first else None,
        "peak_of_cap_percent": 100e6 * result.peak_mb / size.cap,
        "tokens": first.get("tokens"),
    }


def goals(results: Results, size: Size, failed: Mapping[str, str]) -> list[Goal]:
    """At the batch that they are about, but for the tokens."""
    at = size.at
    ours, sync = results[OURS, at], results["ours, no overlap", at]
    shares = figure([answer["bound_s"] / step for answer in ours.answers for step in answer["steps_s"]])
    same = [
        results[OURS, batch].answers[0]["tokens"] == results["ours, no overlap", batch].answers[0]["tokens"]
        for batch in size.batches
    ]
    orders = [results[in_order(order), at].answers[0]["tokens"] for order in size.orders]
    equal = orders.count(ours.answers[0]["tokens"])
    return [
        over(results, at, ACCELERATE, OVER_ACCELERATE, failed.get(ACCELERATE, "did not run")),
        over(results, at, LLAMA, OVER_LLAMA_CPP, failed.get(LLAMA, f"{INSTALL_COMMAND} llamacpp")),
        at_least(f"of the roofline's bound at batch {at}", OF_BOUND, shares),
        at_least(f"over ours without overlap at batch {at}", 1.0, ratio(sync.rounds, ours.rounds)),
        Goal("batches with the same tokens with and without overlap", len(same), sum(same), at_least=True),
        *([Goal(f"task orders with S1's tokens at batch {at}", len(orders), equal, at_least=True)] if orders else []),
        Goal("peak of all, of the cap", 1.0, max(result.peak_mb for result in results.values()) * 1e6 / size.cap),
    ]


def over(results: Results, at: int, peer: str, limit: float, why: str) -> Goal:
    """Ours beside a peer; `why` it has no figure, where it has none."""
    name, theirs = f"over {peer} at batch {at}", results.get((peer, at))
    if theirs is None:
        return Goal(name, limit, None, why=why, at_least=True)
    return at_least(name, limit, ratio(theirs.rounds, results[OURS, at].rounds[: len(theirs.rounds)]))
