"""The sampler against transformers' filters, and its frequencies against the distribution that it should draw from."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from skyfog_inference.request import SamplingParams
from skyfog_inference.sampler import Draw, _lowest, draw

VOCAB = 2_000
DRAWS = 4_000


def kept(scores: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Which tokens may be drawn: bool [rows, vocab]."""
    rows, vocab = scores.shape
    best = scores.sort(dim=-1, descending=True).values
    k, p = torch.full((rows,), top_k if top_k < vocab else 0), torch.full((rows,), top_p, dtype=torch.float64)
    return scores >= _lowest(scores, best, k, p)[:, None]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [0, 1, 7, 600, VOCAB, VOCAB + 5])
@pytest.mark.parametrize("top_p", [1e-6, 0.2, 0.9, 0.9999, 1.0])
def test_what_is_kept_is_what_transformers_keeps(temperature: float, top_k: int, top_p: float) -> None:
    from transformers.generation import logits_process as peers

    logits = 2 * torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(top_k + int(100 * top_p)))
    scores = peers.TemperatureLogitsWarper(temperature)(None, logits)
    wanted = scores
    if top_k:
        wanted = peers.TopKLogitsWarper(top_k)(None, wanted)
    if top_p < 1:
        wanted = peers.TopPLogitsWarper(top_p)(None, wanted)
    ours = kept(scores, top_k, top_p)
    theirs = wanted.isfinite()
    # Where the mass reaches top_p within the rounding of fp32 sums, one token more or less is kept.
    assert int((ours != theirs).sum()) <= (0 if top_p <= 0.9 or top_p == 1 else 3)


@pytest.mark.parametrize("params", [{}, {"top_k": 6}, {"top_p": 0.7}, {"temperature": 0.5, "top_k": 10, "top_p": 0.95}])
@pytest.mark.parametrize("one_seed", [True, False])
def test_tokens_are_as_frequent_as_they_are_likely(params: dict[str, float], one_seed: bool) -> None:
    """Over the numbers of one seed, and over the first number of many seeds."""
    sampling = SamplingParams(**params)  # type: ignore[arg-type]
    logits = 1.5 * torch.randn(12, generator=torch.Generator().manual_seed(5))
    scaled = logits / sampling.temperature
    allowed = kept(scaled[None], sampling.top_k, sampling.top_p)[0]
    likely = scaled.masked_fill(~allowed, -torch.inf).double().softmax(-1)
    wanted = [Draw(sampling, *((3, n) if one_seed else (n, 0)), {}) for n in range(DRAWS)]
    drawn = draw(logits.expand(DRAWS, -1), wanted)
    counts = torch.bincount(torch.tensor([one.token for one in drawn if one]), minlength=12)
    assert int(counts[~allowed].sum()) == 0
    kinds = int(allowed.sum())
    if kinds > 1:
        test = stats.chisquare(counts[allowed].numpy(), (likely[allowed] * DRAWS).numpy())
        assert test.pvalue > 1e-3
