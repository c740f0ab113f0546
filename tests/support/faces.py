"""A tiny model with a tokenizer and a chat template, and the inference server as a process."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from support.processes import Process, Processes

CONTEXT = 256
END = 256  # the token that ends a text
VOCAB = 258
HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 64, 4, 2, 96, 2
HEAD_DIM = HIDDEN // HEADS
CLI = "from skyfog_inference.cli import app; app(prog_name='skyfog infer')"
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_tiny(folder: Path, head_dim: int = HEAD_DIM) -> Path:
    """A random Llama whose tokens are bytes. A large `head_dim` makes keys and values large, and little else."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": head_dim,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "eos_token_id": END,
        "bos_token_id": None,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_weights(folder / "model.safetensors", head_dim)
    _write_tokenizer(folder)
    return folder


def _write_weights(path: Path, head_dim: int) -> None:
    random = torch.Generator().manual_seed(0)
    queries, kv = head_dim * HEADS, head_dim * KV_HEADS

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * 0.2

    tensors = {
        "model.embed_tokens.weight": made(VOCAB, HIDDEN),
        "model.norm.weight": torch.ones(HIDDEN),
        "lm_head.weight": made(VOCAB, HIDDEN),
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.self_attn.q_proj.weight": made(queries, HIDDEN),
            f"{name}.self_attn.k_proj.weight": made(kv, HIDDEN),
            f"{name}.self_attn.v_proj.weight": made(kv, HIDDEN),
            f"{name}.self_attn.o_proj.weight": made(HIDDEN, queries),
            f"{name}.mlp.gate_proj.weight": made(INNER, HIDDEN),
            f"{name}.mlp.up_proj.weight": made(INNER, HIDDEN),
            f"{name}.mlp.down_proj.weight": made(HIDDEN, INNER),
            f"{name}.input_layernorm.weight": torch.ones(HIDDEN),
            f"{name}.post_attention_layernorm.weight": torch.ones(HIDDEN),
        }
    save_file(tensors, path)


def _write_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    assert backend.token_to_id("<|end|>") == END
    backend.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def environment() -> dict[str, str]:
    """So that a child finds what this process finds, and leaves other cores alone."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


def infer(processes: Processes, name: str, *words: str) -> Process:
    """A `skyfog infer` process."""
    return processes.python(name, "-c", CLI, *words, env=environment())


class Server:
    """`skyfog infer serve` on a free port; ready when made."""

    def __init__(self, processes: Processes, model: str, *words: str) -> None:
        self.process = infer(processes, "serve", "serve", model, "--port", "0", "--threads", "1", *words)
        self.process.wait_for("serving ", limit_s=120)
        found = re.search(r"serving .*?url=(\S+)/v1", self.process.output)
        assert found is not None, self.process.output
        self.url = found.group(1)
