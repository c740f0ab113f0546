"""OpenVINO GenAI, run by the Python of its own environment: JSON lines, jobs on stdin, answers on stdout.

Imports nothing of ours. A first job with `into` has a folder of transformers' form converted, and that is all; any
other first job says which converted model, and every later one is a batch of prompts, all at once, greedy.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

BATCHED_TOKENS = 2_048  # in one step
CACHE_GB = 1


def convert(job: dict[str, Any]) -> None:
    """The weights stay bf16."""
    from optimum.exporters.openvino import main_export  # noqa: PLC0415 - takes seconds, and conversion alone needs it

    main_export(job["folder"], job["into"], task="text-generation-with-past", convert_tokenizer=False)


def pipeline_of(job: dict[str, Any]) -> Any:
    """Continuous batching, the keys and values in bf16 too."""
    import openvino_genai  # noqa: PLC0415

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = CACHE_GB
    scheduler.enable_prefix_caching = False
    scheduler.max_num_seqs = job["most"]
    scheduler.max_num_batched_tokens = BATCHED_TOKENS
    properties = {
        "INFERENCE_NUM_THREADS": job["threads"],
        "INFERENCE_PRECISION_HINT": "bf16",
        "KV_CACHE_PRECISION": "bf16",
    }
    return openvino_genai.ContinuousBatchingPipeline(job["model"], scheduler, "CPU", properties)


def completed(pipeline: Any, prompts: list[list[int]], tokens: int) -> float:
    """Seconds until every prompt has so many tokens."""
    import numpy as np  # noqa: PLC0415
    import openvino  # noqa: PLC0415
    import openvino_genai  # noqa: PLC0415

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, False
    inputs = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
    begun = time.perf_counter()
    answers = pipeline.generate(inputs, [config] * len(prompts))
    took = time.perf_counter() - begun
    counts = [len(answer.m_generation_ids[0]) for answer in answers]
    if set(counts) != {tokens}:
        raise RuntimeError(f"{tokens} tokens were asked for, there came {counts}")
    return took


def main() -> None:
    """Answer jobs until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    if "into" in job:
        convert(job)
        print(json.dumps({"ready": True}), file=out, flush=True)
        return
    pipeline = pipeline_of(job)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        prefill_s = completed(pipeline, job["prompts"], 1)
        whole_s = completed(pipeline, job["prompts"], job["steps"] + 1)
        print(json.dumps({"prefill_s": prefill_s, "decode_s": whole_s - prefill_s}), file=out, flush=True)


if __name__ == "__main__":
    main()
