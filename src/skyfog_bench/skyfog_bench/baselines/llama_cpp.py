"""llama.cpp (xllamacpp), run by the Python of its own environment: JSON lines, jobs on stdin, answers on stdout.

Imports nothing of ours. The first job says which GGUF file; every other one is a batch of prompts, all at once, greedy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp


def server_of(job: dict[str, Any]) -> Any:
    """As many slots as the largest batch has prompts, each with its own context."""
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    params.n_parallel = job["most"]
    params.n_ctx = job["most"] * job["context"]
    params.n_batch, params.n_ubatch = job["batched_tokens"], 2048
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.warmup = False
    params.cache_ram_mib = 0
    params.kv_unified = False
    return xllamacpp.Server(params)


def ran(server: Any, prompts: list[list[int]], steps: int) -> dict[str, float]:
    """Seconds of reading all prompts, and of so many steps of decode, which come last."""

    def ask(prompt: list[int]) -> Any:
        request = {"prompt": prompt, "n_predict": steps + 1, "temperature": 0, "ignore_eos": True}
        answer = server.handle_completions(request | {"cache_prompt": False})
        return json.loads(answer) if isinstance(answer, str) else answer

    with ThreadPoolExecutor(len(prompts)) as pool:
        begun = time.perf_counter()
        answers = list(pool.map(ask, prompts))
        took = time.perf_counter() - begun
    for answer in answers:
        count = answer.get("usage", {}).get("completion_tokens", answer.get("tokens_predicted"))
        if count != steps + 1:
            raise RuntimeError(f"{steps + 1} tokens were asked for: {answer}")
    # It times every prompt from its first token to its last one. The prompt that was read last decodes beside no
    # other's reading, so that its time is the shortest.
    decode_s = min(answer["timings"]["predicted_ms"] for answer in answers) / 1e3
    return {"prefill_s": took - decode_s, "decode_s": decode_s}


def main() -> None:
    """Answer jobs until stdin ends."""
    # What llama.cpp prints goes to stderr, whatever prints it.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = server_of(json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(ran(server, job["prompts"], job["steps"])), file=out, flush=True)


if __name__ == "__main__":
    main()
