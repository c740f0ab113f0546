"""`skyfog bench inference_memory`: decode and prefill of models that fit into memory, beside their peers.

Random Llama-200M and Mixtral-489M in bf16, prompts of random tokens, greedy. Every engine is in a process of its own,
with as many threads as there are cores; they take turns, round by round, and only one computes at a time. Each may
read all prompts in one step, so that every step of decode draws for all of them. Before the rounds, ours and
transformers draw the same prompts in fp32: `same_tokens_fp32` says whether the tokens are equal. llama.cpp, OpenVINO
GenAI and vLLM are taken where their environments are there (`skyfog bench peers install NAME`); where one is not, or
fails, its row says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyfog_bench.inference.models import LLAMA_200M, MIXTRAL_489M, Shape, made
from skyfog_bench.inference.offload_worker import prompts_of
from skyfog_bench.inference.peers import PEERS
from skyfog_bench.measure import figure, ratio
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_bench.report import Goal, Report, at_least
from skyfog_core import extras

WORKER = "skyfog_bench.inference.memory_worker"
OURS, PEER = "ours", "transformers"
LOAD_LIMIT_S, BATCH_LIMIT_S = 180.0, 300.0
GOAL, GOAL_BATCHES = 1.5, (8, 32)
CHECK_PROMPTS, CHECK_TOKENS = 2, 24


@dataclass(frozen=True, slots=True)
class Size:
    """What is run."""

    shapes: tuple[Shape, ...]
    batches: tuple[int, ...]
    prompt: int  # tokens
    steps: int  # of decode
    rounds: int

    @property
    def context(self) -> int:
        return self.prompt + self.steps + 1


FULL = Size((LLAMA_200M, MIXTRAL_489M), (1, 8, 32), prompt=128, steps=31, rounds=3)
QUICK = Size((LLAMA_200M,), (8,), prompt=64, steps=7, rounds=3)


@dataclass(slots=True)
class Result:
    """One engine at one batch, by round."""

    decode: list[float] = field(default_factory=list)  # tokens a second
    prefill: list[float] = field(default_factory=list)


Results = dict[tuple[str, int], Result]


def run(processes: Processes, size: Size, seed: int, say: Callable[[str], None]) -> Report:
    """Raises ConfigError where torch or transformers is not there."""
    extras.need("inference", "torch", "safetensors", "tokenizers", "transformers", "gguf")
    report = Report("inference_memory", seed)
    for shape in size.shapes:
        folder = made(shape, say=say)
        same = same_tokens(processes, shape, folder, seed, say)
        results, failed = compete(processes, size, shape, folder, seed, say)
        report.rows += [row(shape, *key, result, same) for key, result in results.items()]
        report.rows += [{"model": shape.name, "engine": name, "why_not": why} for name, why in failed.items()]
        report.goals += goals(shape, size, results)
    return report


def same_tokens(processes: Processes, shape: Shape, folder: Path, seed: int, say: Callable[[str], None]) -> bool:
    """Whether ours draws transformers' tokens in fp32."""
    say(f"{shape.name}: tokens in fp32 …")
    prompts = prompts_of(CHECK_PROMPTS, CHECK_TOKENS, shape.vocab, seed)
    found = []
    for name in (OURS, PEER):
        process = native(processes, name, folder, "float32", len(prompts), 2 * CHECK_TOKENS)
        found.append(process.ask(BATCH_LIMIT_S, prompts=prompts, steps=CHECK_TOKENS - 1)["tokens"])
        processes.end([process])
    return bool(found[0] == found[1])


def compete(
    processes: Processes, size: Size, shape: Shape, folder: Path, seed: int, say: Callable[[str], None]
) -> tuple[Results, dict[str, str]]:
    """All engines, batch by batch and round by round; the first round warms them up and does not count.

    Also why a peer is not among them, or was only for some of the time.
    """
    engines, failed = loaded(processes, size, shape, folder, say)
    results: Results = {}
    for batch in size.batches:
        prompts = prompts_of(batch, size.prompt, shape.vocab, seed)
        for number in range(size.rounds + 1):
            for name, process in list(engines.items()):
                try:
                    answer = process.ask(BATCH_LIMIT_S, prompts=prompts, steps=size.steps)
                except BenchError as error:
                    _give_up(name, error, failed, say)
                    processes.end([engines.pop(name)])
                    continue
                if number:
                    result = results.setdefault((name, batch), Result())
                    result.decode.append(batch * size.steps / answer["decode_s"])
                    result.prefill.append(batch * size.prompt / answer["prefill_s"])
        rates = {name: figure(results[name, batch].decode).value for name in engines}
        say(f"{shape.name}, batch {batch}, decode tok/s: " + ", ".join(f"{name} {rates[name]:.0f}" for name in rates))
    processes.end(list(engines.values()))
    return results, failed


def loaded(
    processes: Processes, size: Size, shape: Shape, folder: Path, say: Callable[[str], None]
) -> tuple[dict[str, Process], dict[str, str]]:
    """All that can run, and why others cannot."""
    most, failed = max(size.batches), dict[str, str]()
    engines = {name: native(processes, name, folder, "bfloat16", most, size.context) for name in (OURS, PEER)}
    for peer in PEERS:
        try:
            engines[peer.name] = peer.start(processes, shape, folder, most, size.context)
        except BenchError as error:
            _give_up(peer.name, error, failed, say)
    return engines, failed


def _give_up(name: str, error: BenchError, failed: dict[str, str], say: Callable[[str], None]) -> None:
    """A peer's failure is a row. Ours and transformers', which the goals are about, ends the benchmark."""
    if name in {OURS, PEER}:
        raise error
    failed[name] = str(error).partition("\n")[0]
    say(f"{name}: {failed[name]}")


def native(processes: Processes, name: str, folder: Path, dtype: str, most: int, context: int) -> Process:
    """Ours or transformers, loaded."""
    process = processes.start(name, WORKER, domain=0)
    job: dict[str, Any] = {"contestant": name, "folder": str(folder), "dtype": dtype, "most": most}
    process.ask(LOAD_LIMIT_S, **job, context=context, batched_tokens=most * context, threads=_threads())
    return process


def row(shape: Shape, name: str, batch: int, result: Result, same: bool) -> dict[str, Any]:
    """Medians and quartiles over rounds."""
    decode, prefill = figure(result.decode), figure(result.prefill)
    return {
        "model": shape.name,
        "engine": name,
        "batch": batch,
        "decode_tok_s": decode.value,
        "decode_low": decode.low,
        "decode_high": decode.high,
        "prefill_tok_s": prefill.value,
        "prefill_low": prefill.low,
        "prefill_high": prefill.high,
        "same_tokens_fp32": same if name == OURS else None,
    }


def goals(shape: Shape, size: Size, results: Results) -> list[Goal]:
    """Decode beside transformers, at the batches that the goal is about."""
    found = []
    for batch in GOAL_BATCHES:
        name = f"{shape.name}: decode over transformers at batch {batch}"
        if batch not in size.batches:
            found.append(Goal(name, GOAL, None, why="not run in this size", at_least=True))
            continue
        mine, peer = ([[1 / rate] for rate in results[engine, batch].decode] for engine in (OURS, PEER))
        found.append(at_least(name, GOAL, ratio(peer, mine)))
    return found


def _threads() -> int:
    return len(os.sched_getaffinity(0))
