"""The books of the key-value blocks of one tier: who holds which, which are shared, which are free. Pure."""

from __future__ import annotations

BLOCK_SIZE = 16  # tokens; what the kernel is written for, as in NEO and vLLM


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_SIZE)
