"""The weights of one layer as the forward pass takes them. Matrices are [out, in], as in torch's `linear`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class FeedForward:
    """SwiGLU: a dense layer's, or one expert's."""

    gate_up: torch.Tensor  # [2 * intermediate, hidden]: gate above up
    down: torch.Tensor  # [hidden, intermediate]


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """Everything of a layer before its feed-forward part."""

    input_norm: torch.Tensor  # [hidden]
    qkv: torch.Tensor  # [(heads + 2 * kv_heads) * head_dim, hidden]: q above k above v
    qkv_bias: torch.Tensor | None  # [(heads + 2 * kv_heads) * head_dim]
    output: torch.Tensor  # [hidden, heads * head_dim]
    post_norm: torch.Tensor  # [hidden]
    router: torch.Tensor | None  # [experts, hidden]; None: dense


@dataclass(frozen=True, slots=True)
class TopWeights:
    """What stands above and below the layers."""

    embedding: torch.Tensor  # [vocab, hidden]
    norm: torch.Tensor  # [hidden]
    head: torch.Tensor  # [vocab, hidden]; the embedding itself where they are tied


class WeightStore(Protocol):
    """Where the forward pass takes weights from: memory, or pages that are on their way.

    Between `attention(i)` or `feed_forward(i, e)` and `release(i)` the tensors stay valid; after it they may be
    overwritten. A store that holds everything ignores `release`.
    """

    @property
    def top(self) -> TopWeights: ...

    def attention(self, layer: int) -> AttentionWeights:
        """Waits until they are there. Raises OSError where they cannot be read."""
        ...

    def feed_forward(self, layer: int, expert: int = 0) -> FeedForward:
        """Waits until they are there. Expert 0 of a dense layer is the layer itself."""
        ...

    def want(self, layer: int, experts: Iterable[int]) -> object:
        """Say which experts are going to be asked for, so that all of them can be on their way. Never waits."""
        ...

    def release(self, layer: int) -> None: ...

    def close(self) -> None: ...
