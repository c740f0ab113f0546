"""The stages of a forward pass over one sub-batch: what stands between two attentions, apart from them.

    begin -> [ before -> attention -> after ] * layers -> logits

One runner takes a sub-batch through all of it; another has two under way and lets them take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from skyfog_inference.layers import forward
from skyfog_inference.layers.rotary import Angles, angles, frequencies
from skyfog_inference.layers.weights import WeightStore
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.runner.batch import FlatBatch


@dataclass(slots=True)
class Flow:
    """A sub-batch on its way through the layers. `heads` is set by `before`, `attended` filled in by attention."""

    batch: FlatBatch
    hidden: torch.Tensor  # [tokens, hidden]
    turned: Angles
    heads: forward.Heads
    attended: torch.Tensor  # [tokens, heads, head_dim]


class Stages:
    """The layers' linear parts, norms and experts (NEO's Tl), on whatever device the weights are."""

    def __init__(self, config: ModelConfig, weights: WeightStore, device: torch.device) -> None:
        self._config = config
        self._weights = weights
        self._frequencies = frequencies(config, device)

    def begin(self, batch: FlatBatch) -> Flow:
        """Embed the tokens, and come to the first layer's attention."""
        hidden = forward.embed(self._weights.top, batch.tokens)
        turned = angles(self._frequencies, batch.positions, hidden.dtype)
        heads = forward.pre_attention(self._config, self._weights.attention(0), hidden, turned)
        return Flow(batch, hidden, turned, heads, _room_for(heads))

    def before(self, layer: int, flow: Flow) -> None:
        """Queries, keys and values of a layer."""
        flow.heads = forward.pre_attention(self._config, self._weights.attention(layer), flow.hidden, flow.turned)
        flow.attended = _room_for(flow.heads)

    def after(self, layer: int, flow: Flow) -> None:
        """From a layer's attention to its end."""
        config, weights = self._config, self._weights.attention(layer)
        hidden, normed = forward.post_attention(config, weights, flow.hidden, flow.attended)
        if weights.router is None:
            flow.hidden = hidden + forward.feed_forward(self._weights.feed_forward(layer), normed)
        else:
            routing = forward.route(config, weights.router, normed)
            self._weights.want(layer, (expert for expert, count in enumerate(routing.counts) if count))
            flow.hidden = hidden + forward.experts(routing, partial(self._weights.feed_forward, layer), normed)

    def logits(self, flow: Flow) -> torch.Tensor:
        """fp32 [drawing, vocab]."""
        drawing = flow.batch.drawing
        hidden = flow.hidden if drawing is None else flow.hidden[drawing]
        return forward.logits(self._config, self._weights.top, hidden)


def _room_for(heads: forward.Heads) -> torch.Tensor:
    return torch.empty_like(heads.query, memory_format=torch.contiguous_format)
