"""Attention over a paged cache: one interface, our kernel for CPUs, and torch."""
