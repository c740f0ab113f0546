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
FIRST_LOOK = 256  # most likely tokens among which what is kept is looked for before all are sorted


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
        sound = logits.amax(dim=-1).isfinite().tolist()
        scores = _penalised(logits, wanted)
        tokens = scores.argmax(dim=-1)
        drawing = [row for row, one in enumerate(wanted) if one.params.temperature > 0 and sound[row]]
        if drawing:
            rows = torch.tensor(drawing, device=logits.device)
            tokens[rows] = _invert(scores[rows], [wanted[row] for row in drawing])
        logprobs = _logprobs(logits, tokens, wanted)
        return [
            Drawn(token, *logprobs.get(row, (None, ()))) if good else None
            for row, (token, good) in enumerate(zip(tokens.tolist(), sound, strict=True))
        ]


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
    vocab, device = scores.shape[-1], scores.device

    def column(values: list[float], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    at = column([uniform(one.seed, one.index) for one in wanted], torch.float64)
    temperatures = column([max(one.params.temperature, SMALLEST) for one in wanted], scores.dtype)
    top_k = column([one.params.top_k if one.params.top_k < vocab else 0 for one in wanted], torch.int64)
    top_p = column([one.params.top_p for one in wanted], torch.float64)
    # The greatest is 0 before it is divided, so that a tiny temperature cannot overflow.
    scaled = (scores - scores.amax(dim=-1, keepdim=True)) / temperatures[:, None]
    tokens = torch.empty(len(wanted), dtype=torch.int64, device=device)
    filtered = (top_k > 0) | (top_p < 1)
    free, rows = (~filtered).nonzero()[:, 0], filtered.nonzero()[:, 0]
    tokens[free] = _search(scaled[free], at[free])
    # What is kept is nearly always among the first few; else all are looked at.
    for count in (min(FIRST_LOOK, vocab), vocab):
        if not len(rows):
            break
        looked_at = scaled[rows]
        best = looked_at.topk(count, dim=-1)
        lowest = _lowest(looked_at, best.values, top_k[rows], top_p[rows])
        found = best.values[:, -1] < lowest if count < vocab else torch.ones_like(lowest, dtype=torch.bool)
        ids, order = best.indices[found].sort(dim=-1)
        values = best.values[found].gather(-1, order)
        values.masked_fill_(values < lowest[found, None], -math.inf)
        place = _search(values, at[rows[found]])
        tokens[rows[found]] = ids.gather(-1, place[:, None])[:, 0]
        rows = rows[~found]
    return tokens


def _lowest(scores: torch.Tensor, best: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The score of the least likely token that top-k (0: all) and top-p keep: [rows]. -inf where `best` does not show.

    best: [rows, count], the greatest of `scores`, in order.
    """
    count = best.shape[-1]
    last = best.gather(-1, (top_k - 1).clamp(0, count - 1)[:, None])[:, 0]
    by_k = last.masked_fill((top_k == 0) | (top_k > count), -math.inf)
    within = best.masked_fill(best < by_k[:, None], -math.inf)
    total = torch.where(top_k == 0, scores.logsumexp(dim=-1), within.logsumexp(dim=-1))
    reached = (within - total[:, None]).exp_().cumsum(dim=-1, dtype=torch.float64)
    inside = (reached < top_p[:, None]).sum(dim=-1)
    unseen = (top_p == 1) | (inside >= count)  # of all tokens the last one, where sums are rounded
    by_p = best.gather(-1, inside.clamp(max=count - 1)[:, None])[:, 0].masked_fill(unseen, -math.inf)
    return torch.maximum(by_k, by_p).masked_fill(top_k > count, -math.inf)


def _search(scores: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Where the sums of the scores' exponentials pass `at` times the whole: int64 [rows]."""
    function = scores.exp().cumsum(dim=-1, dtype=torch.float64)
    # right: the first one whose step ends above the number, never one of probability 0. There is one: `at` is below 1
    # by at least 2**-53, and the whole, which is at least 1, times that is less than the whole in fp64 too.
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
