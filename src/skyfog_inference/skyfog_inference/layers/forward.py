"""The forward pass of a Llama-family layer, in parts that a scheduler may place one by one.

    embed -> [ pre_attention -> attention -> post_attention -> feed_forward or experts ] * layers -> logits

Batches are flat: the tokens of all sequences lie one after another, without padding. Every function takes the weights
of one layer, wherever they came from, and returns new tensors; norms and routing are computed in fp32, as Hugging Face
does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from skyfog_inference.layers.linear import linear
from skyfog_inference.layers.rotary import Angles, rotate
from skyfog_inference.layers.weights import AttentionWeights, FeedForward, TopWeights
from skyfog_inference.models.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Heads:
    """Queries, keys and values of a flat batch, turned by their positions."""

    query: torch.Tensor  # [tokens, heads, head_dim]
    key: torch.Tensor  # [tokens, kv_heads, head_dim]
    value: torch.Tensor  # [tokens, kv_heads, head_dim]


def embed(top: TopWeights, tokens: torch.Tensor) -> torch.Tensor:
    """int64 [tokens] -> [tokens, hidden]."""
    return functional.embedding(tokens, top.embedding)


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """[tokens, hidden], scaled to a root mean square of 1 in fp32, then by `weight`."""
    wide = hidden.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(hidden.dtype)


def pre_attention(config: ModelConfig, weights: AttentionWeights, hidden: torch.Tensor, turned: Angles) -> Heads:
    """[tokens, hidden] -> queries, keys and values."""
    normed = rms_norm(hidden, weights.input_norm, config.norm_eps)
    qkv = linear(normed, weights.qkv, weights.qkv_bias).view(len(hidden), -1, config.head_dim)
    both, kept = config.heads + config.kv_heads, config.heads
    turned_heads = rotate(qkv[:, :both], turned)  # queries and keys at once
    return Heads(turned_heads[:, :kept], turned_heads[:, kept:], qkv[:, both:])


def post_attention(
    config: ModelConfig, weights: AttentionWeights, hidden: torch.Tensor, attended: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The residual stream after attention, and what the feed-forward part takes. Both [tokens, hidden].

    attended: [tokens, heads, head_dim].
    """
    hidden = hidden + linear(attended.flatten(1), weights.output)
    return hidden, rms_norm(hidden, weights.post_norm, config.norm_eps)


def feed_forward(weights: FeedForward, normed: torch.Tensor) -> torch.Tensor:
    """SwiGLU, [tokens, hidden] -> [tokens, hidden]; to be added to the residual stream."""
    gate, up = linear(normed, weights.gate_up).chunk(2, dim=-1)
    return linear(functional.silu(gate) * up, weights.down)


@dataclass(frozen=True, slots=True)
class Routing:
    """Which experts a flat batch goes to: (token, expert) pairs sorted by expert."""

    tokens: torch.Tensor  # int64 [tokens * experts_per_token]
    shares: torch.Tensor  # [tokens * experts_per_token, 1]
    counts: list[int]  # pairs of every expert


def route(config: ModelConfig, router: torch.Tensor, normed: torch.Tensor) -> Routing:
    """The `experts_per_token` most likely experts of every token; their shares add up to 1 (Mixtral, 2401.04088)."""
    likely = functional.softmax(linear(normed, router), dim=-1, dtype=torch.float32)
    shares, chosen = torch.topk(likely, config.experts_per_token, dim=-1)
    shares = shares / shares.sum(-1, keepdim=True)
    experts = chosen.flatten()
    order = torch.argsort(experts, stable=True)
    return Routing(
        tokens=order // config.experts_per_token,
        shares=shares.flatten()[order, None].to(normed.dtype),
        counts=torch.bincount(experts, minlength=config.experts).tolist(),
    )


def experts(routing: Routing, weights: Callable[[int], FeedForward], normed: torch.Tensor) -> torch.Tensor:
    """The weighted sum of every token's experts, [tokens, hidden]. One product per expert that is hit.

    weights: asked once for every expert that is hit, in rising order.
    """
    rows = normed[routing.tokens]
    results, first = [], 0
    for expert, count in enumerate(routing.counts):
        if count:
            results.append(feed_forward(weights(expert), rows[first : first + count]))
            first += count
    return torch.zeros_like(normed).index_add_(0, routing.tokens, torch.cat(results).mul_(routing.shares))


def logits(config: ModelConfig, top: TopWeights, hidden: torch.Tensor) -> torch.Tensor:
    """fp32 [rows, vocab], for those rows of the residual stream whose next token is drawn."""
    return linear(rms_norm(hidden, top.norm, config.norm_eps), top.head).to(torch.float32)
