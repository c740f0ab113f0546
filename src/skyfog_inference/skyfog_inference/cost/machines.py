"""Machines that the papers used, from public data sheets; what is not public is said beside the figure. Pure."""

from __future__ import annotations

from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.models.config import ModelConfig

GB = 1e9
GIB = 2**30
TFLOP = 1e12

# MoE-Lightning's setting S2, a g2 instance of Google Cloud. Data sheet of the L4: 121 TFLOP/s in bf16 without sparsity,
# 300 GB/s, 24 GB. Host: table 2 (192 GB), figure 3 (100 GB/s) and section 6.3 (1.6 TFLOP/s). The link is what their
# predicted 4.957 s at r_w = 0.0559 comes from: 32 layers of (1 - r_w) * 2.819 GB of experts at 16 GiB/s; figure 3 has
# the 32 GB/s of the data sheet.
L4 = Machine(
    "L4, 24-core Xeon 2.2 GHz",
    device=Level("L4", 121 * TFLOP, 300 * GB, 24 * GB),
    host=Level("Xeon 2.2 GHz", 1.6 * TFLOP, 100 * GB, 192 * GB),
    link=16 * GIB,
)
L4_FIGURE_3 = Machine(L4.name, L4.device, L4.host, link=32 * GB)

MIXTRAL_8X7B = ModelConfig(
    name="Mixtral-8x7B",
    family="mixtral",
    vocab_size=32_000,
    hidden_size=4_096,
    intermediate_size=14_336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    max_positions=32_768,
    rope_theta=1e6,
    norm_eps=1e-5,
    tied_embeddings=False,
    experts=8,
    experts_per_token=2,
)
