"""Perception as stateless services: an image in, objects with boxes in its pixels out."""
