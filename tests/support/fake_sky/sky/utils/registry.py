"""Clouds by name."""

from types import SimpleNamespace

from sky.clouds import GCP

CLOUD_REGISTRY = SimpleNamespace(from_str=lambda _name: GCP())
