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
    scheduler.max_num_batched_tokens = job["batched_tokens"]
    properties = {
        "INFERENCE_NUM_THREADS": job["threads"],
        "INFERENCE_PRECISION_HINT": "bf16",
        "KV_CACHE_PRECISION": "bf16",
    }
    return openvino_genai.ContinuousBatchingPipeline(job["model"], scheduler, "CPU", properties)


def ran(pipeline: Any, prompts: list[list[int]], steps: int) -> dict[str, float]:
    """Seconds of reading all prompts, and of so many steps of decode, which come last."""
    import numpy as np  # noqa: PLC0415
    import openvino  # noqa: PLC0415
    import openvino_genai  # noqa: PLC0415

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = steps + 1, True, False
    took: list[float] = []
    begun = time.perf_counter()
    handles = [
        pipeline.add_request(number, openvino.Tensor(np.array([prompt], np.int64)), config)
        for number, prompt in enumerate(prompts)
    ]
    while pipeline.has_non_finished_requests():
        pipeline.step()
        took.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    counts = {len(answer.generated_ids) for handle in handles for answer in handle.read_all()}
    if counts != {steps + 1}:
        raise RuntimeError(f"{steps + 1} tokens were asked for, there came {counts}")
    return {"prefill_s": sum(took[:-steps]), "decode_s": sum(took[-steps:])}


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
        print(json.dumps(ran(pipeline, job["prompts"], job["steps"])), file=out, flush=True)


if __name__ == "__main__":
    main()
