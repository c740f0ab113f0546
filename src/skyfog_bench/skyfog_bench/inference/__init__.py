"""Benchmarks of the inference node, one file a part; each writes a report of its own."""
