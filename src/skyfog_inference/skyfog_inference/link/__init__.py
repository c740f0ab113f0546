"""Asynchronous copies between tiers: CUDA streams, threads, direct reads of a disk."""
