"""One contestant of `inference_offload` in a process of its own, which can be capped: jobs on stdin, answers on stdout.

A job is one batch: prompts in, a number of decode steps, greedy. Everything heavy is imported after the first job has
come, so that the cap is there before any memory is taken.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

MB = 1e6
READS = 6  # that measure the disk
GIVEN_MEMORY = 0.94  # of the cap: what the kernel charges beside ours (page tables, files) needs some too


@dataclass(frozen=True, slots=True)
class Ran:
    """What one batch took."""

    prefill_s: float
    steps_s: list[float]  # for one token of every request
    tokens: list[list[int]]
    more: dict[str, Any]


class Contestant(Protocol):
    """An engine with its model."""

    def run(self, prompts: list[list[int]], steps: int) -> Ran: ...


class Ours:
    """Our engine within the cap; a new one for every batch, since the policy depends on it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def run(self, prompts: list[list[int]], steps: int) -> Ran:
        from skyfog_inference.cost.hrm import parse_machine  # noqa: PLC0415
        from skyfog_inference.engine import Engine  # noqa: PLC0415
        from skyfog_inference.offload import Asked, build  # noqa: PLC0415
        from skyfog_inference.placement.policy import Workload  # noqa: PLC0415

        job = self._job
        # The disk's rate changes by the minute on a shared machine; the bound is that of now.
        machine = replace(parse_machine(job), link=disk_rate(Path(job["folder"]), job["sample"]))
        asked = Asked(
            memory=int(job["cap"] * GIVEN_MEMORY),
            work=Workload(len(prompts[0]), steps + 1),
            requests=len(prompts),
            order=job["order"],
            overlap=job["overlap"],
            experts=job["experts"],
        )
        made = build(Path(job["folder"]), machine, asked)
        engine = Engine(
            made.scheduler, made.runner, vocab_size=made.config.vocab_size, context=made.config.max_positions
        )
        try:
            ran = _turned(made, engine, prompts, steps)
            ran.more["disk_gb_s"] = machine.link / 1e9
            return ran
        finally:
            engine.close()


def _turned(made: Any, engine: Any, prompts: list[list[int]], steps: int) -> Ran:
    """Submit all, then turn until all have ended: steps with prompts in them are prefill."""
    from skyfog_inference.request import SamplingParams  # noqa: PLC0415

    params = SamplingParams(max_tokens=steps + 1, temperature=0, ignore_eos=True)
    streams = [engine.submit(prompt, params) for prompt in prompts]
    stats = made.runner.stats
    prefill_s, steps_s = 0.0, []
    while True:
        begun, before, drawn = time.perf_counter(), stats.decode_steps, stats.tokens
        if not engine.turn():
            break
        took = time.perf_counter() - begun
        if stats.decode_steps > before:  # in seconds for as many tokens as there are requests
            steps_s.append(took * len(prompts) / (stats.tokens - drawn))
        else:
            prefill_s += took
    policy = made.policy
    more = {
        "at_once": policy.batch,
        "micro_batch": policy.micro_batch,
        "r_w": policy.weights_on_gpu,
        "bound_s": len(prompts) / policy.tokens_per_s,
        "waited_s": stats.waited_s / max(1, stats.decode_steps),
        "streamed_mb": made.runner.weights.residency.streamed / MB,
    }
    return Ran(prefill_s, steps_s, [[event.token for event in stream] for stream in streams], more)


class Accelerate:
    """transformers with accelerate: layers on disk, brought in one by one, the rest in memory."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch  # noqa: PLC0415
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        places = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
        places |= {f"model.layers.{layer}": "disk" for layer in range(job["layers"])}
        self._model = AutoModelForCausalLM.from_pretrained(
            job["folder"], dtype=torch.bfloat16, device_map=places, offload_folder=job["offload_folder"]
        ).eval()

    def run(self, prompts: list[list[int]], steps: int) -> Ran:
        from skyfog_bench.inference.hugging_face import decoded  # noqa: PLC0415 - imports torch

        took, tokens = decoded(self._model, prompts, steps)
        return Ran(took[0], took[1:], tokens, {})


def disk_rate(folder: Path, sample: int) -> float:
    """Bytes a second of the link that streams weights, over the beginning of the pages: the best of some reads."""
    from skyfog_inference.link.direct import DirectLink  # noqa: PLC0415
    from skyfog_inference.tier import Span  # noqa: PLC0415
    from skyfog_inference.tiers.disk import DiskTier  # noqa: PLC0415
    from skyfog_inference.tiers.memory import RamTier  # noqa: PLC0415
    from skyfog_inference.weights.pages import PAGES  # noqa: PLC0415

    disk, ram = DiskTier(folder / PAGES), RamTier("rate", sample)
    link = DirectLink(disk, ram)
    into, took = ram.allocate(sample), []
    for number in range(READS):
        begun = time.perf_counter()
        link.copy(Span(disk, number * sample, sample), into).wait()
        took.append(time.perf_counter() - begun)
    for part in (link, disk, ram):
        part.close()
    return sample / min(took[1:])  # the first touches the memory


def machine(job: dict[str, Any]) -> dict[str, Any]:
    """What a job says of the machine, measured within the cap."""
    from skyfog_core.clock import SteadyClock  # noqa: PLC0415
    from skyfog_inference.cost.hrm import machine_document  # noqa: PLC0415
    from skyfog_inference.profile import Extent, measure  # noqa: PLC0415

    extent = Extent(side=1_024, memory=job["sample"], disk=job["sample"], repeats=5)
    found, _rates = measure(Path(job["folder"]), extent, SteadyClock(), lambda _text: None)
    return machine_document(found)


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Contestant]] = {"ours": Ours, "accelerate": Accelerate}


def prompts_of(count: int, length: int, vocab: int, seed: int) -> list[list[int]]:
    """Random tokens that are no special ones."""
    import numpy as np  # noqa: PLC0415

    return [list(map(int, row)) for row in np.random.default_rng(seed).integers(3, vocab, (count, length))]


def answers(jobs: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The first job says who; then one answer for every batch."""
    job = next(jobs)
    import torch  # noqa: PLC0415

    torch.set_num_threads(job["threads"])
    if job["contestant"] == "machine":
        yield {"machine": machine(job)}
        return
    begun = time.perf_counter()
    contestant = CONTESTANTS[job["contestant"]](job)
    yield {"loaded_s": time.perf_counter() - begun}
    for batch in jobs:
        before = disk_read()
        ran = contestant.run(batch["prompts"], batch["steps"])
        gc.collect()  # the next batch's policy counts what is left of this one
        yield {
            "prefill_s": ran.prefill_s,
            "steps_s": ran.steps_s,
            "tokens": digest(ran.tokens),
            "read_mb": (disk_read() - before) / MB,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            **ran.more,
        }


def digest(tokens: Sequence[Sequence[int]]) -> str:
    """To compare what two have drawn."""
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16]


def disk_read() -> int:
    """Bytes that this process had the disk read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def main() -> None:
    """Until stdin ends. Errors are answers."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin where others have work
    out = os.fdopen(os.dup(1), "w")  # what libraries print must not come between
    sys.stdout = sys.stderr
    try:
        for answer in answers(json.loads(line) for line in sys.stdin):
            out.write(json.dumps(answer) + "\n")
            out.flush()
    except Exception as error:
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        out.flush()
        raise


if __name__ == "__main__":
    main()
