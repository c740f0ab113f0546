"""Random models of the shapes that the benchmarks run: written layer by layer, so that none is ever whole in memory.

A folder is in the form that transformers reads: config.json, one safetensors file a layer, their index, a tokenizer of
words "t3" to "t31999". `made.json` is written last: a folder without it, or whose files have other sizes, is made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skyfog_core import extras

SEED = 7
SPREAD = 0.02  # standard deviation of every matrix, as transformers draws them
MADE = "made.json"
INDEX = "model.safetensors.index.json"
WORDS = ("<unk>", "<s>", "</s>")  # the first of the vocabulary
MAX_POSITIONS = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama (no experts) or Mixtral model."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    experts: int = 0
    vocab: int = 32_000

    @property
    def layer_bytes(self) -> int:
        """One layer in bf16, without its norms."""
        width = self.hidden // self.heads
        attention = 2 * self.hidden * self.hidden + 2 * self.kv_heads * width * self.hidden
        return 2 * (attention + max(1, self.experts) * 3 * self.intermediate * self.hidden)

    @property
    def bytes(self) -> int:
        """The whole model in bf16, without its norms and routers."""
        return self.layers * self.layer_bytes + 4 * self.vocab * self.hidden


LLAMA_200M = Shape("llama-200m", layers=12, hidden=1024, intermediate=2816, heads=16, kv_heads=4)
# Half the layers: a step takes little more than half as long, and its parts are to each other as before.
LLAMA_133M = Shape("llama-133m", layers=6, hidden=1024, intermediate=2816, heads=16, kv_heads=4)
MIXTRAL_489M = Shape("mixtral-489m", layers=8, hidden=1024, intermediate=2048, heads=16, kv_heads=4, experts=8)
# Mixtral's proportions: 3.5 times as wide inside, and a layer is a small part of the whole: two of them are a buffer.
MIXTRAL_4GB = Shape("mixtral-4gb", layers=22, hidden=1024, intermediate=3584, heads=16, kv_heads=4, experts=8)


def models_root() -> Path:
    """Where random models are kept: SKYFOG_MODELS, else below the temporary folder."""
    return Path(os.environ.get("SKYFOG_MODELS") or Path(tempfile.gettempdir()) / "skyfog_models")


def made(shape: Shape, root: Path | None = None, say: Callable[[str], None] = lambda _text: None) -> Path:
    """The folder of a random model in bf16, made now where it is not there. Raises ConfigError without torch."""
    extras.need("inference", "torch", "safetensors", "tokenizers")
    folder = (root or models_root()) / shape.name
    if _whole(folder, shape):
        return folder
    say(f"drawing {shape.name}, {shape.bytes / 1e9:.1f} GB, into {folder} …")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write_weights(shape, folder)
    (folder / "config.json").write_text(json.dumps(_config(shape), indent=2))
    _write_tokenizer(shape, folder)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / MADE).write_text(json.dumps({"shape": asdict(shape), "seed": SEED, "sizes": sizes}, indent=2))
    return folder


def _whole(folder: Path, shape: Shape) -> bool:
    try:
        found = json.loads((folder / MADE).read_text())
        sizes = {name: (folder / name).stat().st_size for name in found["sizes"]}
    except (OSError, ValueError, KeyError):
        return False
    return bool(found == {"shape": asdict(shape), "seed": SEED, "sizes": sizes})


def _config(shape: Shape) -> dict[str, Any]:
    family = "mixtral" if shape.experts else "llama"
    config = {
        "architectures": ["MixtralForCausalLM" if shape.experts else "LlamaForCausalLM"],
        "model_type": family,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    if shape.experts:
        config |= {"num_local_experts": shape.experts, "num_experts_per_tok": 2, "sliding_window": None}
    return config


def _write_weights(shape: Shape, folder: Path) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415 - an extra

    index: dict[str, str] = {}
    for at in range(shape.layers + 1):  # the last is what stands above and below the layers
        file = f"model-{at + 1:05d}-of-{shape.layers + 1:05d}.safetensors"
        tensors = dict(_drawn(at, shape))
        save_file(tensors, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
    total = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2))


def _drawn(at: int, shape: Shape) -> Iterator[tuple[str, Any]]:
    """The tensors of one file, from a seed of its own."""
    import torch  # noqa: PLC0415 - an extra

    source = torch.Generator().manual_seed(SEED * 1_000 + at)
    names = _layer(at, shape) if at < shape.layers else _top(shape)
    for name, sizes in names.items():
        if len(sizes) == 1:
            yield name, torch.ones(sizes, dtype=torch.bfloat16)
        else:
            yield name, torch.randn(sizes, generator=source).mul_(SPREAD).bfloat16()


def _layer(at: int, shape: Shape) -> dict[str, tuple[int, ...]]:
    head, key_values = f"model.layers.{at}", shape.kv_heads * shape.hidden // shape.heads
    square, thin = (shape.hidden, shape.hidden), (key_values, shape.hidden)
    up, down = (shape.intermediate, shape.hidden), (shape.hidden, shape.intermediate)
    found: dict[str, tuple[int, ...]] = {
        f"{head}.input_layernorm.weight": (shape.hidden,),
        f"{head}.post_attention_layernorm.weight": (shape.hidden,),
    }
    for letter, sizes in (("q", square), ("k", thin), ("v", thin), ("o", square)):
        found[f"{head}.self_attn.{letter}_proj.weight"] = sizes
    if not shape.experts:
        for name, sizes in (("gate", up), ("up", up), ("down", down)):
            found[f"{head}.mlp.{name}_proj.weight"] = sizes
        return found
    found[f"{head}.block_sparse_moe.gate.weight"] = (shape.experts, shape.hidden)
    for expert in range(shape.experts):
        for name, sizes in (("w1", up), ("w2", down), ("w3", up)):
            found[f"{head}.block_sparse_moe.experts.{expert}.{name}.weight"] = sizes
    return found


def _top(shape: Shape) -> dict[str, tuple[int, ...]]:
    table = (shape.vocab, shape.hidden)
    return {"model.embed_tokens.weight": table, "model.norm.weight": (shape.hidden,), "lm_head.weight": table}


def _write_tokenizer(shape: Shape, folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - an extra

    words = [*WORDS, *(f"t{number}" for number in range(len(WORDS), shape.vocab))]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(WORDS))
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": WORDS[0], "bos_token": WORDS[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"eos_token": WORDS[2]}, indent=2))
