"""Tokens are those of transformers' `generate`, in fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from skyfog_inference.models.load import load
from support.inference import VARIANTS, VOCAB, generate_greedy, reference, single_runner

LENGTHS = (1, 5, 16, 17, 40)
NEW = 24


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_flat_batch_of_all_lengths_draws_what_transformers_does(
    variant: str, model_folder: Callable[[str], Path]
) -> None:
    theirs = reference(variant)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in LENGTHS]
    model = load(str(model_folder(variant)))
    ours = generate_greedy(single_runner(model.config, model.weights), prompts, NEW)
    for prompt, tokens in zip(prompts, ours, strict=True):
        whole = theirs.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)
        assert tokens == whole[0, len(prompt) :].tolist()
