"""vLLM on CPUs, run by the Python of its own environment: JSON lines, jobs on stdin, answers on stdout.

Imports nothing of ours. The first job says which model; every other one is a batch of prompts, all at once, greedy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

BATCHED_TOKENS = 2_048  # in one step
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
        max_num_batched_tokens=BATCHED_TOKENS,
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
    )


def completed(model: Any, prompts: list[list[int]], tokens: int) -> float:
    """Seconds until every prompt has so many tokens."""
    from vllm import SamplingParams  # noqa: PLC0415

    params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True, detokenize=False)
    begun = time.perf_counter()
    answers = model.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
    took = time.perf_counter() - begun
    counts = [len(answer.outputs[0].token_ids) for answer in answers]
    if set(counts) != {tokens}:
        raise RuntimeError(f"{tokens} tokens were asked for, there came {counts}")
    return took


def main() -> None:
    """Answer jobs until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model = model_of(json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        prefill_s = completed(model, job["prompts"], 1)
        whole_s = completed(model, job["prompts"], job["steps"] + 1)
        print(json.dumps({"prefill_s": prefill_s, "decode_s": whole_s - prefill_s}), file=out, flush=True)


if __name__ == "__main__":
    main()
