"""transformers' decoding, called as its `generate` does, without what that does beside."""

from __future__ import annotations

import time
from typing import Any

import torch


def decoded(model: Any, prompts: list[list[int]], steps: int) -> tuple[list[float], list[list[int]]]:
    """Seconds of the prompts' pass and of each of `steps` decodes; the most likely tokens of every prompt.

    prompts: all of one length.
    """
    from transformers import DynamicCache  # noqa: PLC0415

    with torch.inference_mode():
        cache, ids = DynamicCache(config=model.config), torch.tensor(prompts)
        took, tokens = [], []
        for _ in range(steps + 1):
            begun = time.perf_counter()
            out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            ids = out.logits[:, -1].argmax(-1, keepdim=True)
            took.append(time.perf_counter() - begun)
            tokens.append(ids[:, 0].tolist())
    return took, [list(row) for row in zip(*tokens, strict=True)]
