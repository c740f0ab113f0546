"""The machines of NEO's evaluation (section 5.1, table 1) as rooflines, from public specifications.

Device figures are those of data sheets: dense tensor FLOP/s in fp16, bytes/s, bytes. `EFFICIENCY` is one set for all
machines, models, hosts and lengths: what such kernels reach of a data sheet's figures. Launch and step times are the
paper's; `device_flops`, `host_flops` and `host_bandwidth` were calibrated by hand on two loads, the A10G with its
largest host at outputs of 50 and 100, and the T4 at 200. Nothing else was fitted.

Hosts of the g5 family are parts of an EPYC 7R32 (Rome). A chip of eight cores reads 47 GB/s at most over its link to
the memory controllers (32 bytes a cycle at 1.467 GHz), whatever the eight channels of the socket give. So the four
cores of a 2xlarge and the eight of a 4xlarge, which are one chip, have the same bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass

from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.cost.roofline import Efficiency, RooflineCost
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.scheduler.base import Scheduler
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig

GB, TFLOP = 1e9, 1e12
CHIP = 47 * GB  # eight cores of an EPYC 7R32
CORE = 1.2 / 32 * TFLOP  # the paper's 1.2 TFLOP/s for the 32 cores of a g5.16xlarge
NO_PATIENCE_MS = 1e9
PCIE_3, PCIE_4, PCIE_5 = 16 * GB, 32 * GB, 64 * GB

# The launch of a layer's kernels: 0.6 ms (section 4). Of a step: less than 3 ms of scheduling (section 3.2).
EFFICIENCY = Efficiency(
    device_flops=0.65,
    device_bandwidth=0.85,
    host_flops=0.28,
    host_bandwidth=0.8,
    link=0.8,
    launch_ms=0.6,
    step_ms=3.0,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A model on a machine, with the sizes that the published configuration gives it."""

    name: str
    model: ModelConfig
    machine: Machine
    device_blocks: int
    swap_bytes: float  # of keys and values on the host
    batched_tokens: int
    sequences: int
    devices: int = 1

    @property
    def cost(self) -> RooflineCost:
        return RooflineCost(self.model, self.machine, EFFICIENCY, self.devices)

    @property
    def host_blocks(self) -> int:
        """Blocks in the swap space."""
        token = 4 * self.model.kv_heads * self.model.head_dim * self.model.layers
        return int(self.swap_bytes / (token * BLOCK_SIZE))

    def neo(self) -> Scheduler:
        """The published rules, which let a decode of the host wait for as long as it does not hide.

        One layer more of cache on the device takes its prefills for the host, so there are fewer blocks.
        """
        blocks = self.device_blocks * self.model.layers // (self.model.layers + 1)
        limits = NeoConfig(
            max_sequences=self.sequences, max_batched_tokens=self.batched_tokens, patience_ms=NO_PATIENCE_MS
        )
        return NeoScheduler(limits, self.cost, blocks, self.host_blocks, sharing=False)

    def alone(self) -> Scheduler:
        """The device alone, with an eighth of the swap space, as the published baseline has it."""
        return FcfsScheduler(
            self.device_blocks,
            self.host_blocks // 8,
            max_batched_tokens=self.batched_tokens,
            max_sequences=self.sequences,
            prefix_sharing=False,
        )


def _llama(name: str, hidden: int, width: int, layers: int, heads: int, kv_heads: int, vocab: int) -> ModelConfig:
    return ModelConfig(
        name=name,
        family="llama",
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        max_positions=8_192,
        rope_theta=5e5,
        norm_eps=1e-5,
        tied_embeddings=False,
    )


LLAMA_2_7B = _llama("Llama-2-7B", 4_096, 11_008, 32, 32, 32, 32_000)
LLAMA_3_8B = _llama("Llama-3-8B", 4_096, 14_336, 32, 32, 8, 128_256)
LLAMA_3_70B = _llama("Llama-3-70B", 8_192, 28_672, 80, 64, 8, 128_256)

A10G = Level("A10G", 70 * TFLOP, 600 * GB, 24 * GB)


def _g5(size: str, cores: int) -> Setting:
    host = Level(f"EPYC 7R32, {cores} cores", cores * CORE, max(1, cores // 8) * CHIP, cores * 8 * GB)
    machine = Machine(f"g5.{size}", A10G, host, PCIE_4)
    # Published for the 16xlarge: 120 GB of swap. The smaller ones have 16 n GB of memory: as large a part of it.
    return Setting(f"A10G, g5.{size}", LLAMA_3_8B, machine, 1_650, 120 * GB * cores / 32, 20_480, 1_024)


G5 = {size: _g5(size, cores) for size, cores in (("2xlarge", 4), ("4xlarge", 8), ("8xlarge", 16), ("16xlarge", 32))}

# Xeon P-8259CL: six channels of DDR4-2933, 140.8 GB/s for 24 cores; eight cores read 12 GB/s each.
G4DN = Setting(
    "T4, g4dn.4xlarge",
    LLAMA_2_7B,
    Machine(
        "g4dn.4xlarge",
        Level("T4", 65 * TFLOP, 320 * GB, 16 * GB),
        Level("Xeon P-8259CL, 8 cores", 8 * CORE, 96 * GB, 64 * GB),
        PCIE_3,
    ),
    54,
    20 * GB,
    832,
    512,
)

# The paper's own machine; its host is not described beyond one socket of a server for eight H100. Taken: 56 cores with
# eight channels of DDR5-4800. Blocks: what 2 x 80 GB leave beside 141 GB of weights at 0.95 of the memory.
H100 = Setting(
    "2 x H100",
    LLAMA_3_70B,
    Machine(
        "2 x H100",
        Level("H100", 989 * TFLOP, 3_350 * GB, 80 * GB),
        Level("one socket, 56 cores", 56 * CORE, 307 * GB, 1_000 * GB),
        PCIE_5,
    ),
    2_000,
    120 * GB,
    20_480,
    1_024,
    devices=2,
)
