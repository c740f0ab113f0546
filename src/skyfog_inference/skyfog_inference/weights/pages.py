"""A model's weights as pages of one file, so that a layer's attention or one expert is one read past the cache.

`pack` writes a folder: `pages.bin` (pages in the order in which a step needs them, each at a multiple of 4096 bytes),
`pages.json` (where each page is, its checksum and its tensors), and the model's config and tokenizer. `pages.json` is
written last: a folder without it is not whole. Tensors are fused and typed as the forward pass takes them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TypeVar

import torch
from pydantic import Field

from skyfog_core.config.base import Strict, parse
from skyfog_core.errors import ConfigError
from skyfog_inference.layers.weights import AttentionWeights, FeedForward, TopWeights
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.hf import read_config, read_json
from skyfog_inference.tiers.disk import SECTOR
from skyfog_inference.weights.resident import moved
from skyfog_inference.weights.safetensors import SafetensorsSource
from skyfog_inference.weights.source import TensorSource, attention_weights, feed_forward_weights, top_weights

PAGES, INDEX = "pages.bin", "pages.json"
ALIGN = 64  # of a tensor in its page: a cache line
TAKEN_ALONG = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template*")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RESERVING = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # of file systems that cannot
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Weights = TypeVar("Weights", AttentionWeights, FeedForward, TopWeights)


class PagedTensor(Strict):
    """One tensor of a page."""

    name: str
    offset: int = Field(ge=0)  # in the page
    shape: list[Annotated[int, Field(ge=1)]]


class Page(Strict):
    """What is read at once."""

    offset: int = Field(ge=0, multiple_of=SECTOR)
    size: int = Field(gt=0, multiple_of=SECTOR)
    crc32: int
    tensors: list[PagedTensor]


class PagedLayer(Strict):
    """One page for attention, norms and router; one for every expert, or for the whole dense feed-forward part."""

    attention: Page
    experts: list[Page]


class PageIndex(Strict):
    """`pages.json`."""

    version: Literal[1] = 1
    dtype: Literal["float32", "bfloat16", "float16"]
    size: int  # of pages.bin, bytes
    top: Page
    layers: list[PagedLayer]


def is_packed(folder: Path) -> bool:
    """Whether `pack` made this folder."""
    return (folder / INDEX).is_file()


def read_index(folder: Path) -> tuple[ModelConfig, PageIndex]:
    """Raises ConfigError where the folder is not whole, or its files do not fit together."""
    config = read_config(folder)
    index = parse(PageIndex, read_json(folder / INDEX), str(folder / INDEX))
    try:
        size = (folder / PAGES).stat().st_size
    except OSError as error:
        raise ConfigError(f"{folder / PAGES}: {error.strerror}") from None
    if size != index.size:
        raise ConfigError(f"{folder / PAGES}: holds {size} bytes, not {index.size} as {INDEX} says: pack it anew")
    experts = max(1, config.experts)
    if len(index.layers) != config.layers or any(len(layer.experts) != experts for layer in index.layers):
        raise ConfigError(f"{folder / INDEX}: is of another model than config.json: pack it anew")
    item = DTYPES[index.dtype].itemsize
    for page in (index.top, *(page for layer in index.layers for page in (layer.attention, *layer.experts))):
        ends = [tensor.offset + math.prod(tensor.shape) * item for tensor in page.tensors]
        if page.offset + page.size > index.size or max(ends, default=0) > page.size:
            raise ConfigError(f"{folder / INDEX}: the page at byte {page.offset} has more than there is: pack it anew")
    return config, index


def pack(
    model: Path, out: Path, dtype: str = "auto", say: Callable[[int, int], None] = lambda _done, _all: None
) -> Path:
    """Write the pages of a Hugging Face folder, layer by layer. `say` is given layers done and layers in all.

    Raises ConfigError for a model that cannot be read, OSError where the disk does not take it, which says how many
    bytes it should. However it ends early, no pages are left.
    """
    config = read_config(model)
    out.mkdir(parents=True, exist_ok=True)
    (out / INDEX).unlink(missing_ok=True)
    part = out / f"{INDEX}.part"
    with SafetensorsSource(model) as source:
        stored = source.tensor("model.norm.weight").dtype
        wanted = stored if dtype == "auto" else DTYPES[dtype]
        try:
            index = _write_pages(out / PAGES, config, source, wanted, say)
            for path in (path for pattern in TAKEN_ALONG for path in model.glob(pattern)):
                shutil.copyfile(path, out / path.name)
            part.write_text(json.dumps(index.model_dump()))
            part.replace(out / INDEX)
        except BaseException as error:
            for path in (out / PAGES, part):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in FULL:
                needed, free = least_size(config, wanted.itemsize), shutil.disk_usage(out).free
                why = f"{error.strerror}: {needed} bytes are needed, and {free} are free"
                raise OSError(error.errno, why, error.filename or str(out / PAGES)) from None
            raise
    return out


def least_size(config: ModelConfig, itemsize: int) -> int:
    """Bytes of all weights; their pages have at most a few thousand more each."""
    hidden, queries, keys = config.hidden_size, config.heads * config.head_dim, config.kv_heads * config.head_dim
    attention = 2 * hidden * (queries + keys) + 2 * hidden + config.experts * hidden
    attention += (queries + 2 * keys) if config.qkv_bias else 0
    experts = max(1, config.experts) * 3 * hidden * config.intermediate_size
    top = (1 if config.tied_embeddings else 2) * config.vocab_size * hidden + hidden
    return (top + config.layers * (attention + experts)) * itemsize


def _write_pages(
    path: Path, config: ModelConfig, source: TensorSource, wanted: torch.dtype, say: Callable[[int, int], None]
) -> PageIndex:
    with path.open("wb") as file:
        _reserve(file, least_size(config, wanted.itemsize))
        top = _write(file, top_weights(config, source), wanted)
        layers = []
        for layer in range(config.layers):
            layers.append(_write_layer(file, config, source, layer, wanted))
            say(layer + 1, config.layers)
        index = PageIndex(dtype=NAMES[wanted], size=file.tell(), top=top, layers=layers)  # type: ignore[arg-type]
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # it is read past the cache from now on
    return index


def _reserve(file: BinaryIO, size: int) -> None:
    """A disk that is too small says so now, not after an hour. Raises OSError."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in NO_RESERVING:
            raise


def _write_layer(
    file: BinaryIO, config: ModelConfig, source: TensorSource, layer: int, dtype: torch.dtype
) -> PagedLayer:
    attention = _write(file, attention_weights(config, source, layer), dtype)
    experts = [
        _write(file, feed_forward_weights(config, source, layer, expert), dtype)
        for expert in range(max(1, config.experts))
    ]
    return PagedLayer(attention=attention, experts=experts)


def _write(file: BinaryIO, weights: Weights, dtype: torch.dtype) -> Page:
    """Append one page."""
    start, crc, tensors = file.tell(), 0, []
    for name, tensor in _tensors(moved(weights, dtype, torch.device("cpu"))):
        tensors.append(PagedTensor(name=name, offset=file.tell() - start, shape=list(tensor.shape)))
        data = tensor.flatten().view(torch.uint8).numpy()
        for piece in (memoryview(data), bytes(-data.nbytes % ALIGN)):
            crc = zlib.crc32(piece, crc)
            file.write(piece)
    rest = bytes(-file.tell() % SECTOR)
    file.write(rest)
    return Page(offset=start, size=file.tell() - start, crc32=zlib.crc32(rest, crc), tensors=tensors)


def _tensors(weights: AttentionWeights | FeedForward | TopWeights) -> Iterator[tuple[str, torch.Tensor]]:
    """By field, each once: a head that is tied to the embedding is left out."""
    seen: list[torch.Tensor] = []
    for field in fields(weights):
        tensor = getattr(weights, field.name)
        if tensor is not None and not any(tensor is other for other in seen):
            seen.append(tensor)
            yield field.name, tensor


def checked(page: Page, data: torch.Tensor, file: str) -> None:
    """Raises OSError where the bytes of a page, uint8 [size], are not those that were packed."""
    if zlib.crc32(memoryview(data.numpy())) != page.crc32:
        raise OSError(5, f"the page at byte {page.offset} is not what was packed: pack the model anew", file)


def unpacked(kind: type[Weights], page: Page, data: torch.Tensor, dtype: torch.dtype) -> Weights:
    """Weights that look into the bytes of their page, uint8 [size]."""
    found: dict[str, Any] = dict.fromkeys(field.name for field in fields(kind))
    for tensor in page.tensors:
        count = int(torch.Size(tensor.shape).numel()) * dtype.itemsize
        found[tensor.name] = data[tensor.offset : tensor.offset + count].view(dtype).view(tensor.shape)
    if kind is TopWeights and found["head"] is None:
        found["head"] = found["embedding"]
    return kind(**found)
