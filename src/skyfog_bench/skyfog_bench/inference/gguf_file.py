"""A random model of models.py as a GGUF file, for llama.cpp: bf16 matrices, the tokens' names as its vocabulary.

Written tensor by tensor: no more than the experts' matrices of one kind and layer are ever in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skyfog_bench.inference.models import MAX_POSITIONS, WORDS, Shape

NORMAL, CONTROL = 1, 3  # types of tokens in GGUF


def gguf_of(shape: Shape, folder: Path) -> Path:
    """The file beside the model, made now where it is not there."""
    import gguf  # noqa: PLC0415 - an extra

    target = folder.parent / f"{folder.name}.gguf"
    if target.is_file() and target.stat().st_mtime >= (folder / "made.json").stat().st_mtime:
        return target
    making = target.with_suffix(f".{os.getpid()}")
    writer = gguf.GGUFWriter(making, "llama")
    _describe(writer, shape)
    tensors = list(_tensors(folder))
    for tensor in tensors:
        _announce(writer, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(_read(tensor, shape))
    writer.close()
    making.replace(target)
    return target


@dataclass(slots=True)
class _Tensor:
    """One of GGUF's, of one of ours or of those of all experts, [experts, out, in]."""

    name: str
    file: Path
    keys: list[str] = field(default_factory=list)

    @property
    def stacked(self) -> bool:
        return "_exps" in self.name


def _announce(writer: Any, tensor: _Tensor) -> None:
    """Norms and routers as fp32, since llama.cpp wants them so."""
    import gguf  # noqa: PLC0415 - an extra
    import numpy as np  # noqa: PLC0415
    from safetensors import safe_open  # noqa: PLC0415 - an extra

    with safe_open(tensor.file, "pt") as file:
        sizes = file.get_slice(tensor.keys[0]).get_shape()
    if tensor.stacked:
        sizes = [len(tensor.keys), *sizes]
    count = int(np.prod(sizes))
    if _is_fp32(tensor, sizes):
        writer.add_tensor_info(tensor.name, sizes, np.dtype(np.float32), 4 * count)
    else:
        kind = gguf.GGMLQuantizationType.BF16
        writer.add_tensor_info(tensor.name, sizes, np.dtype(np.int16), 2 * count, raw_dtype=kind)


def _is_fp32(tensor: _Tensor, sizes: Any) -> bool:
    return len(sizes) == 1 or "ffn_gate_inp" in tensor.name


def _read(tensor: _Tensor, shape: Shape) -> Any:
    """Its elements as numpy has them: bf16 as int16."""
    import torch  # noqa: PLC0415 - an extra
    from safetensors import safe_open  # noqa: PLC0415 - an extra

    with safe_open(tensor.file, "pt") as file:
        found = [file.get_tensor(key) for key in tensor.keys]
    whole = torch.stack(found) if tensor.stacked else found[0]
    if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
        whole = _interleaved(whole, shape.heads if "attn_q" in tensor.name else shape.kv_heads)
    if _is_fp32(tensor, whole.shape):
        return whole.float().numpy()
    return whole.contiguous().view(torch.int16).numpy()


def _describe(writer: Any, shape: Shape) -> None:
    writer.add_name(shape.name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(MAX_POSITIONS)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(2)
    writer.add_tokenizer_model("llama")
    names = [*WORDS, *(f"t{number}" for number in range(len(WORDS), shape.vocab))]
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * shape.vocab)
    writer.add_token_types([CONTROL] * len(WORDS) + [NORMAL] * (shape.vocab - len(WORDS)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _tensors(folder: Path) -> Iterator[_Tensor]:
    """Layer by layer."""
    from safetensors import safe_open  # noqa: PLC0415 - an extra

    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "block_sparse_moe.gate": "ffn_gate_inp",
    }
    kinds = {"w1": "ffn_gate_exps", "w2": "ffn_down_exps", "w3": "ffn_up_exps"}
    for path in sorted(folder.glob("*.safetensors")):
        found: dict[str, _Tensor] = {}
        with safe_open(path, "pt") as file:
            keys = sorted(file.keys())
        for key in keys:
            ours = key.removesuffix(".weight")
            if ours in top:
                name = top[ours]
            else:
                _, _, layer, part = ours.split(".", 3)
                name = f"blk.{layer}.{kinds[part[-2:]] if '.experts.' in part else parts[part]}"
            found.setdefault(name, _Tensor(f"{name}.weight", path)).keys.append(key)
        yield from found.values()


def _interleaved(weight: Any, heads: int) -> Any:
    """Rotary halves of a head side by side, as llama.cpp turns them."""
    out, width = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, width).transpose(1, 2).reshape(out, width)
