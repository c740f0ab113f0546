"""A random model of models.py as a GGUF file, for llama.cpp: bf16 matrices, the tokens' names as its vocabulary."""

from __future__ import annotations

import os
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
    for name, tensor in _tensors(shape, folder):
        if tensor.ndim == 1 or "ffn_gate_inp" in name:
            writer.add_tensor(name, tensor.float().numpy())
        else:
            as_bytes = tensor.contiguous().view(_uint8()).numpy()
            writer.add_tensor(name, as_bytes, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    making.replace(target)
    return target


def _uint8() -> Any:
    import torch  # noqa: PLC0415 - an extra

    return torch.uint8


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


def _tensors(shape: Shape, folder: Path) -> Any:
    """(GGUF's name, tensor), layer by layer."""
    import torch  # noqa: PLC0415 - an extra
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
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            experts: dict[tuple[str, str], list[Any]] = {}
            for key in sorted(file.keys()):
                tensor, name = file.get_tensor(key), key.removesuffix(".weight")
                if name in top:
                    yield f"{top[name]}.weight", tensor
                    continue
                _, _, layer, part = name.split(".", 3)
                if ".experts." in part:
                    experts.setdefault((layer, part[-2:]), []).append(tensor)
                    continue
                if part in {"self_attn.q_proj", "self_attn.k_proj"}:
                    tensor = _interleaved(tensor, shape.heads if "q_proj" in part else shape.kv_heads)
                yield f"blk.{layer}.{parts[part]}.weight", tensor
            for (layer, which), tensors in experts.items():
                name = {"w1": "ffn_gate_exps", "w2": "ffn_down_exps", "w3": "ffn_up_exps"}[which]
                yield f"blk.{layer}.{name}.weight", torch.stack(tensors)


def _interleaved(weight: Any, heads: int) -> Any:
    """Rotary halves of a head side by side, as llama.cpp turns them."""
    out, width = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, width).transpose(1, 2).reshape(out, width)
