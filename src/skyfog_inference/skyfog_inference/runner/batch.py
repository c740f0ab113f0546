"""From the chunks of a sub-batch to the index tensors of a flat batch: made once a step, used by every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from skyfog_inference.attention.base import Rows
from skyfog_inference.blocks import BLOCK_SIZE, blocks_for
from skyfog_inference.kv_cache import Slots
from skyfog_inference.request import Place
from skyfog_inference.scheduler.base import Chunk, SubBatch


@dataclass(frozen=True, slots=True)
class Part:
    """The tokens of a flat batch whose keys and values lie in one tier, and whose attention one side computes."""

    place: Place
    worker: Place  # HOST for decodes of the host, else the device: prompts are attended to on the device
    tokens: torch.Tensor | slice  # int64: which of the flat batch; a slice where they lie one after another
    slots: Slots  # on the tier's device, as are the rows
    rows: Rows


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """A sub-batch as tensors."""

    tokens: torch.Tensor  # int64 [tokens]
    positions: torch.Tensor  # int64 [tokens]
    parts: tuple[Part, ...]
    drawing: torch.Tensor | None  # int64: tokens whose logits are wanted; None: all of them
    sequences: tuple[str, ...]  # whose they are


def flatten(batch: SubBatch, devices: dict[Place, torch.device]) -> FlatBatch:
    """devices: of the caches; the batch itself goes to that of Place.DEVICE."""
    chunks = batch.chunks
    device = devices[Place.DEVICE]
    ids = np.concatenate([_ids(chunk) for chunk in chunks])
    positions = np.concatenate([np.arange(chunk.start, chunk.start + chunk.count) for chunk in chunks])
    ends = np.cumsum([chunk.count for chunk in chunks])
    drawing = [int(end) - 1 for chunk, end in zip(chunks, ends, strict=True) if chunk.draws]
    on_host = len(chunks) - len(batch.host_decodes)  # the first of the decodes of the host
    workers = [Place.DEVICE if index < on_host else Place.HOST for index in range(len(chunks))]
    kinds = sorted({(c.place, w) for c, w in zip(chunks, workers, strict=True)}, key=lambda kind: kind[0].value)
    return FlatBatch(
        tokens=torch.from_numpy(ids).to(device),
        positions=torch.from_numpy(positions).to(device),
        parts=tuple(_part(chunks, workers, ends, kind, devices[kind[0]], device) for kind in kinds),
        drawing=None if len(drawing) == len(ids) else torch.tensor(drawing, dtype=torch.int64, device=device),
        sequences=tuple(chunk.sequence.id for chunk in chunks if chunk.draws),
    )


def _ids(chunk: Chunk) -> npt.NDArray[np.int64]:
    return np.array(chunk.sequence.tokens[chunk.start : chunk.start + chunk.count], dtype=np.int64)


def _part(
    chunks: Sequence[Chunk],
    workers: Sequence[Place],
    ends: npt.NDArray[np.int64],
    kind: tuple[Place, Place],
    target: torch.device,
    device: torch.device,
) -> Part:
    """kind: place and worker; target: the device of the place's cache."""
    mine = [i for i, chunk in enumerate(chunks) if (chunk.place, workers[i]) == kind]
    taken = [chunks[i] for i in mine]
    tokens: torch.Tensor | slice = slice(int(ends[mine[0]]) - taken[0].count, int(ends[mine[-1]]))
    if mine[-1] - mine[0] >= len(mine):
        flat = np.concatenate([np.arange(ends[i] - chunks[i].count, ends[i]) for i in mine])
        tokens = torch.from_numpy(flat).to(device)
    return Part(*kind, tokens, slots_of(taken, target), rows_of(taken, target))


def rows_of(chunks: Sequence[Chunk], device: torch.device) -> Rows:
    """The chunks' queries lie one after another, in this order."""
    lengths = [chunk.start + chunk.count for chunk in chunks]
    needed = [blocks_for(length) for length in lengths]
    tables = np.zeros((len(chunks), max(needed)), dtype=np.int32)
    for row, (chunk, blocks) in enumerate(zip(chunks, needed, strict=True)):
        tables[row, :blocks] = chunk.sequence.blocks[:blocks]
    starts = np.zeros(len(chunks) + 1, dtype=np.int32)
    np.cumsum([chunk.count for chunk in chunks], out=starts[1:])
    return Rows(
        starts=torch.from_numpy(starts).to(device),
        lengths=torch.tensor(lengths, dtype=torch.int32).to(device),
        tables=torch.from_numpy(tables).to(device),
    )


def slots_of(chunks: Sequence[Chunk], device: torch.device) -> Slots:
    """Where the chunks' own tokens are to be stored."""
    blocks, places = [], []
    for chunk in chunks:
        positions = np.arange(chunk.start, chunk.start + chunk.count)
        first = chunk.start // BLOCK_SIZE
        held = np.array(chunk.sequence.blocks[first : blocks_for(chunk.start + chunk.count)], dtype=np.int64)
        blocks.append(held[positions // BLOCK_SIZE - first])
        places.append(positions % BLOCK_SIZE)
    return Slots(
        blocks=torch.from_numpy(np.concatenate(blocks)).to(device),
        places=torch.from_numpy(np.concatenate(places)).to(device),
    )
