"""Errors by SkyPilot's names."""

from __future__ import annotations


class ResourcesUnavailableError(Exception):
    def __init__(self, message: str, failover_history: list[Exception]) -> None:
        super().__init__(message)
        self.failover_history = failover_history


class ClusterDoesNotExist(ValueError):
    pass


class NetworkError(Exception):
    pass


class ApiServerConnectionError(RuntimeError):
    pass
