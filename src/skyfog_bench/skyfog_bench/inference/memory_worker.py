"""One contestant of `inference_memory` in a process of its own: JSON lines, jobs on stdin, answers on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from skyfog_bench.inference.hugging_face import decoded
from skyfog_bench.inference.offload_worker import Ran


class Contestant(Protocol):
    """An engine with its model."""

    def run(self, prompts: list[list[int]], steps: int) -> Ran: ...


class Ours:
    """Our engine with the scheduler that serves first come first."""

    def __init__(self, job: dict[str, Any]) -> None:
        from skyfog_inference.attention.choose import choose  # noqa: PLC0415
        from skyfog_inference.engine import Engine  # noqa: PLC0415
        from skyfog_inference.kv_cache import KVCache  # noqa: PLC0415
        from skyfog_inference.models.load import DTYPES, load  # noqa: PLC0415
        from skyfog_inference.runner.single import Side, SingleRunner  # noqa: PLC0415
        from skyfog_inference.scheduler.fcfs import FcfsScheduler  # noqa: PLC0415

        model, dtype, cpu = load(job["folder"], job["dtype"]), DTYPES[job["dtype"]], torch.device("cpu")
        blocks = job["most"] * (job["context"] // 16 + 1)
        runner = SingleRunner(
            model.config, model.weights, Side(KVCache(model.config, blocks, dtype, cpu), choose(cpu, dtype))
        )
        scheduler = FcfsScheduler(blocks, max_batched_tokens=job["batched_tokens"], prefix_sharing=False)
        self._engine = Engine(scheduler, runner, vocab_size=model.config.vocab_size, context=job["context"])

    def run(self, prompts: list[list[int]], steps: int) -> Ran:
        from skyfog_inference.request import SamplingParams  # noqa: PLC0415

        params = SamplingParams(max_tokens=steps + 1, temperature=0, ignore_eos=True)
        streams = [self._engine.submit(prompt, params) for prompt in prompts]
        took: list[float] = []
        begun = time.perf_counter()
        while self._engine.turn():
            took.append(time.perf_counter() - begun)
            begun = time.perf_counter()
        tokens = [[event.token for event in stream if event.token is not None] for stream in streams]
        if len(took) != steps + 1:
            raise RuntimeError(f"one step of prompts and {steps} of decode were asked for, there were {len(took)}")
        return Ran(took[0], took[1:], tokens, {})


class Transformers:
    """transformers' model."""

    def __init__(self, job: dict[str, Any]) -> None:
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        dtype = getattr(torch, job["dtype"])
        self._model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=dtype).eval()

    def run(self, prompts: list[list[int]], steps: int) -> Ran:
        took, tokens = decoded(self._model, prompts, steps)
        return Ran(took[0], took[1:], tokens, {})


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Contestant]] = {"ours": Ours, "transformers": Transformers}


def answers(jobs: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The first job says who; then one answer for every batch."""
    job = next(jobs)
    torch.set_num_threads(job["threads"])
    contestant = CONTESTANTS[job["contestant"]](job)
    yield {"ready": True}
    for batch in jobs:
        ran = contestant.run(batch["prompts"], batch["steps"])
        yield {"prefill_s": ran.prefill_s, "decode_s": sum(ran.steps_s), "tokens": ran.tokens}


def main() -> None:
    """Answer jobs until stdin ends."""
    out, sys.stdout = sys.stdout, sys.stderr
    for answer in answers(json.loads(line) for line in sys.stdin):
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
