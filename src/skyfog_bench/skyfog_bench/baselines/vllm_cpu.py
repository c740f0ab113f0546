"""vLLM on CPUs, run by the Python of its own environment: JSON lines, jobs on stdin, answers on stdout.

Imports nothing of ours. The first job says which model; every other one is a batch of prompts, all at once, greedy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

SURROUNDINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "KMP_BLOCKTIME": "1",  # ms; as its guide has it, and idle threads do not spin where others have work
    "OMP_WAIT_POLICY": "PASSIVE",
}


def model_of(job: dict[str, Any]) -> Any:
    """In bf16, compiled, on all cores that this process may use."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: job["threads"]]))
    os.environ.update(SURROUNDINGS | {"VLLM_CPU_OMP_THREADS_BIND": cores})
    from vllm import LLM  # noqa: PLC0415 - reads the environment when it is imported

    return LLM(
        model=job["model"],
        dtype="bfloat16",
        max_model_len=job["context"],
        max_num_seqs=job["most"],
        max_num_batched_tokens=job["batched_tokens"],
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
    )


def ran(model: Any, prompts: list[list[int]], steps: int) -> dict[str, float]:
    """Seconds until every prompt has its first token, and from then until all have theirs."""
    from vllm import SamplingParams  # noqa: PLC0415

    params = SamplingParams(max_tokens=steps + 1, temperature=0, ignore_eos=True, detokenize=False)
    engine, counts, first = model.llm_engine, dict[str, int](), 0.0
    begun = time.perf_counter()
    for number, prompt in enumerate(prompts):
        engine.add_request(f"{begun}-{number}", {"prompt_token_ids": prompt}, params)
    while engine.has_unfinished_requests():
        for answer in engine.step():
            counts[answer.request_id] = len(answer.outputs[0].token_ids)
        if not first and len(counts) == len(prompts):
            first = time.perf_counter()
    took = time.perf_counter() - begun
    if set(counts.values()) != {steps + 1}:
        raise RuntimeError(f"{steps + 1} tokens were asked for, there came {set(counts.values())}")
    return {"prefill_s": first - begun, "decode_s": took - (first - begun)}


def main() -> None:
    """Answer jobs until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model = model_of(json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(ran(model, job["prompts"], job["steps"])), file=out, flush=True)


if __name__ == "__main__":
    main()
