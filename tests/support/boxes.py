"""How much two boxes are one."""

from __future__ import annotations

Box = tuple[float, float, float, float]  # left, top, right, bottom


def iou(a: Box, b: Box) -> float:
    """What two boxes share, of what they cover together."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
