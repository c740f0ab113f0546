from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skyfog_core.errors import ConfigError
from skyfog_inference.layers.linear import can_pack, linear, pack, padded
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.split import SplitSource
from skyfog_inference.weights.resident import load_resident
from skyfog_inference.weights.safetensors import SafetensorsSource
from skyfog_inference.weights.source import TensorDict, tensor_names
from support.inference import plain

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    name="tiny",
    family="llama",
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=4,
    max_positions=64,
    rope_theta=10_000.0,
    norm_eps=1e-5,
    tied_embeddings=False,
)
SHAPES = {
    "model.embed_tokens.weight": (32, 16),
    "model.norm.weight": (16,),
    "lm_head.weight": (32, 16),
    "input_layernorm.weight": (16,),
    "post_attention_layernorm.weight": (16,),
    "self_attn.q_proj.weight": (16, 16),
    "self_attn.k_proj.weight": (8, 16),
    "self_attn.v_proj.weight": (8, 16),
    "self_attn.o_proj.weight": (16, 16),
    "mlp.gate_proj.weight": (24, 16),
    "mlp.up_proj.weight": (24, 16),
    "mlp.down_proj.weight": (16, 24),
}
Q = "model.layers.1.self_attn.q_proj.weight"


def random_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {name: SHAPES.get(name) or SHAPES[name.split(".", 3)[3]] for name in tensor_names(CONFIG)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def shards(folder: Path) -> dict[str, str]:
    """The tensors in two files with an index; returns which file each is in."""
    tensors = random_tensors()
    names = list(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    file_of = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": file_of}))
    return file_of


def test_shards_hold_what_one_file_does(tmp_path: Path) -> None:
    shards(tmp_path)
    with SafetensorsSource(tmp_path) as source:
        sharded = load_resident(CONFIG, source, torch.float32, CPU)
    whole = load_resident(CONFIG, TensorDict(random_tensors()), torch.float32, CPU)
    assert torch.equal(plain(sharded.attention(1).qkv), plain(whole.attention(1).qkv))
    assert torch.equal(plain(sharded.feed_forward(0).gate_up), plain(whole.feed_forward(0).gate_up))
    assert torch.equal(plain(sharded.top.head), plain(whole.top.head))


def test_parts_are_fused_in_their_order() -> None:
    tensors = random_tensors()
    weights = load_resident(CONFIG, TensorDict(tensors), torch.float32, CPU)
    q, k, v = (tensors[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv")
    assert torch.equal(plain(weights.attention(1).qkv), torch.cat([q, k, v]))


def test_a_missing_tensor_is_named() -> None:
    tensors = random_tensors()
    del tensors[Q]
    with pytest.raises(ConfigError, match=f"tensor {Q} is missing"):
        load_resident(CONFIG, TensorDict(tensors), torch.float32, CPU)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(16, 8), r"should be \[16, 16\] by the model's config, not \[16, 8\]"),
        (torch.zeros(16, 16, dtype=torch.int8), "should hold floats of 16 or 32 bits, not torch.int8"),
    ],
)
def test_a_tensor_of_another_shape_or_kind_is_named(tensor: torch.Tensor, said: str) -> None:
    with pytest.raises(ConfigError, match=f"tensor {Q}: {said}"):
        load_resident(CONFIG, TensorDict(random_tensors() | {Q: tensor}), torch.float32, CPU)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(random_tensors(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"model\.safetensors: is no whole safetensors file"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"<html>not found</html>"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.safetensors: is no whole safetensors file"):
        SafetensorsSource(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds neither model\.safetensors nor"):
        SafetensorsSource(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"b\.safetensors: is missing"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({}, "weight_map: should hold a file for every tensor"),
        ({"weight_map": {Q: 3}}, "weight_map: should hold a file for every tensor"),
        ({"weight_map": {Q: "../a.safetensors"}}, "is no name of a file beside it"),
        ({"weight_map": {"other.weight": "a.safetensors"}}, r"a\.safetensors: tensor other\.weight is missing"),
    ],
)
def test_an_index_that_is_wrong_is_refused(tmp_path: Path, index: object, said: str) -> None:
    shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=said):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2**-7), (torch.float32, 2e-6)])
@pytest.mark.parametrize("rows", [1, 3, 41])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_packed_product_is_the_plain_one(dtype: torch.dtype, error: float, rows: int, with_bias: bool) -> None:
    if not can_pack(torch.zeros(1, 1, dtype=dtype)):
        pytest.skip(f"this CPU's oneDNN has no {dtype}")
    generator = torch.Generator().manual_seed(rows)
    weight, bias = torch.randn(48, 32, generator=generator).to(dtype), torch.randn(48, generator=generator).to(dtype)
    x = torch.randn(rows, 32, generator=generator).to(dtype)
    packed = pack(weight)
    assert packed.is_mkldnn
    ours = linear(x, packed, bias if with_bias else None)
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double() if with_bias else None)
    torch.testing.assert_close(ours.double(), exact, rtol=error, atol=6 * error)


def test_few_numbers_of_rows_are_multiplied() -> None:
    assert [padded(count) for count in (0, 1, 16, 17, 32, 33, 41, 64, 65, 2_048)] == [
        0,
        1,
        16,
        20,
        32,
        40,
        48,
        64,
        80,
        2_048,
    ]
    counts = range(1, 2_049)
    assert all(count <= padded(count) <= 1.25 * count for count in counts)
    assert len({padded(count) for count in counts}) == 44


def test_experts_of_a_split_model_add_up_to_the_dense_one() -> None:
    tensors = random_tensors()
    source = SplitSource(CONFIG, TensorDict(tensors), 4)
    assert all(name in source for name in tensor_names(source.config))
    split = load_resident(source.config, source, torch.float32, CPU)
    downs = [plain(split.feed_forward(0, expert).down) for expert in range(4)]
    assert torch.equal(torch.cat(downs, dim=1) / 4, tensors["model.layers.0.mlp.down_proj.weight"])


def test_neurons_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ConfigError, match="24 neurons do not make 5 equal experts"):
        SplitSource(CONFIG, TensorDict({}), 5)
