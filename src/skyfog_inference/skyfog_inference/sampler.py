"""Draws tokens from logits. The same seed, number of the token and logits give the same token anywhere."""

# Theory. A row is drawn by inverting its distribution function at one number in [0, 1), which is a hash of the
# request's seed and the token's number: not of a generator's state, so neither the other rows of a batch nor the
# replica that draws matter. The function runs over the tokens in order of their ids, summed in fp64: logits that differ
# in their last bits, as those of another batch or machine may, then move its steps by as little, and nearly always
# give the same token. (In order of probability, two near-equal tokens that change places would move all between.)
#
# Order of the filters as in transformers: penalties, temperature, top-k, top-p. What is kept is all that is at least
# as likely as the last one kept, so that equal logits are kept or dropped together.

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from skyfog_inference.request import SamplingParams

SMALLEST = 1e-30  # temperature; below it fp32 ends
FIRST_LOOK = 512  # most likely tokens among which top-p is looked for before all are sorted


@dataclass(frozen=True, slots=True)
class Draw:
    """What is wanted of one row of logits."""

    params: SamplingParams
    seed: int
    index: int  # number of the token among those of its seed
    counts: Mapping[int, int]  # tokens drawn so far, for the penalties


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token, and how likely the model itself held it: before penalties, temperature and filters."""

    token: int
    logprob: float | None  # None: not asked for
    top: tuple[tuple[int, float], ...]  # the most likely tokens and their logprobs, as many as asked for


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) for token number `index` of a seed: 53 bits of BLAKE2b."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed % 2**64, index), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def draw(logits: torch.Tensor, wanted: Sequence[Draw]) -> list[Drawn | None]:
    """One token for each row of `logits` (fp32 [rows, vocab]); None for a row that is no distribution (NaN, +inf)."""
    assert logits.ndim == 2
    assert logits.shape[0] == len(wanted)
    if not wanted:
        return []
    with torch.inference_mode():
        sound = logits.amax(dim=-1).isfinite()
        scores = _penalised(logits, wanted)
        tokens = scores.argmax(dim=-1)
        drawing = [row for row, one in enumerate(wanted) if one.params.temperature > 0 and bool(sound[row])]
        if drawing:
            rows = torch.tensor(drawing, device=logits.device)
            tokens[rows] = _invert(scores[rows], [wanted[row] for row in drawing])
        logprobs = _logprobs(logits, tokens, wanted)
        return [
            Drawn(token, *logprobs.get(row, (None, ()))) if good else None
            for row, (token, good) in enumerate(zip(tokens.tolist(), sound.tolist(), strict=True))
        ]


def kept(scores: torch.Tensor, top_k: Sequence[int], top_p: Sequence[float]) -> torch.Tensor:
    """Which tokens may be drawn: bool [rows, vocab]. `scores` are logits divided by the temperature."""
    vocab = scores.shape[-1]
    lowest = torch.full(scores.shape[:-1], -math.inf, dtype=scores.dtype, device=scores.device)
    cut = [row for row, k in enumerate(top_k) if 0 < k < vocab]
    if cut:
        most = max(top_k[row] for row in cut)
        best = scores[cut].topk(most, dim=-1).values
        last = torch.tensor([top_k[row] - 1 for row in cut], device=scores.device)
        lowest[cut] = best.gather(-1, last[:, None])[:, 0]
    nucleus = [row for row, p in enumerate(top_p) if p < 1]
    if nucleus:
        mass = torch.tensor([top_p[row] for row in nucleus], dtype=torch.float64, device=scores.device)
        within = scores[nucleus].masked_fill(scores[nucleus] < lowest[nucleus][:, None], -math.inf)
        lowest[nucleus] = _nucleus(within, mass)
    return scores >= lowest[:, None]


def _nucleus(scores: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The score of the least likely of the fewest tokens that have `mass` together: [rows]."""
    lowest = torch.empty(scores.shape[0], dtype=scores.dtype, device=scores.device)
    pending = torch.arange(scores.shape[0], device=scores.device)
    for count in (min(FIRST_LOOK, scores.shape[-1]), scores.shape[-1]):
        total = scores[pending].logsumexp(dim=-1, keepdim=True)
        best = scores[pending].topk(count, dim=-1).values
        reached = (best - total).exp_().cumsum(dim=-1, dtype=torch.float64)
        inside = (reached < mass[pending, None]).sum(dim=-1).clamp(max=scores.shape[-1] - 1)
        found = inside < count
        lowest[pending[found]] = best[found].gather(-1, inside[found, None])[:, 0]
        pending = pending[~found]
        if not len(pending):
            break
    return lowest


def _penalised(logits: torch.Tensor, wanted: Sequence[Draw]) -> torch.Tensor:
    """Logits less what tokens that were drawn already cost (OpenAI's presence and frequency penalties)."""
    scores = logits
    for row, one in enumerate(wanted):
        presence, frequency = one.params.presence_penalty, one.params.frequency_penalty
        if one.counts and (presence or frequency):
            if scores is logits:
                scores = logits.clone()
            ids = torch.tensor(list(one.counts), device=logits.device)
            counts = torch.tensor(list(one.counts.values()), dtype=logits.dtype, device=logits.device)
            scores[row, ids] -= presence + frequency * counts
    return scores


def _invert(scores: torch.Tensor, wanted: Sequence[Draw]) -> torch.Tensor:
    """Tokens where the distribution functions reach the rows' uniform numbers: int64 [rows]."""
    device = scores.device
    temperatures = torch.tensor([one.params.temperature for one in wanted], dtype=scores.dtype, device=device)
    # The greatest is 0 before it is divided, so that a tiny temperature cannot overflow.
    scaled = (scores - scores.amax(dim=-1, keepdim=True)) / temperatures.clamp(min=SMALLEST)[:, None]
    allowed = kept(scaled, [one.params.top_k for one in wanted], [one.params.top_p for one in wanted])
    function = scaled.exp_().masked_fill_(~allowed, 0).cumsum(dim=-1, dtype=torch.float64)
    at = torch.tensor([uniform(one.seed, one.index) for one in wanted], dtype=torch.float64, device=device)
    # right: the first token whose step ends above the number, never one of probability 0.
    return torch.searchsorted(function, (at * function[:, -1])[:, None], right=True)[:, 0]


def _logprobs(
    logits: torch.Tensor, tokens: torch.Tensor, wanted: Sequence[Draw]
) -> dict[int, tuple[float, tuple[tuple[int, float], ...]]]:
    """By row, for those that ask: the logprob of its token, and the most likely ones."""
    asking = [row for row, one in enumerate(wanted) if one.params.logprobs is not None]
    if not asking:
        return {}
    rows = logits[asking]
    total = rows.logsumexp(dim=-1, keepdim=True)
    own = (rows.gather(-1, tokens[asking][:, None]) - total)[:, 0].tolist()
    most = min(max(wanted[row].params.logprobs or 0 for row in asking), logits.shape[-1])
    best = rows.topk(most, dim=-1)
    ids, values = best.indices.tolist(), (best.values - total).tolist()
    result = {}
    for place, row in enumerate(asking):
        count = min(wanted[row].params.logprobs or 0, most)
        result[row] = own[place], tuple(zip(ids[place][:count], values[place][:count], strict=True))
    return result
