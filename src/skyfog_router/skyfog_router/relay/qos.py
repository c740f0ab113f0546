"""How deep the queues of a relayed service are."""

from __future__ import annotations

# A service's default depth of 10 loses requests when more than 10 calls come between two takes: of 50 calls at once
# some were never answered. Reliable and keep-last as rclpy's service default, only deeper.
SERVICE_DEPTH = 1_000
