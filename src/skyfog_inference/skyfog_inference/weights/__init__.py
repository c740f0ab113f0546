"""Weights: read from files, held whole in memory, or paged in as they are needed."""
