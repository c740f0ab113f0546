"""Providers by name; a cloud's own library is imported only when its provider is made."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast, get_args

from skyfog_core.config.pool import ProviderName, ServiceSpec
from skyfog_core.errors import ConfigError
from skyfog_pool.provider.base import Provider

NAMES: tuple[ProviderName, ...] = get_args(ProviderName)
# Which clouds a provider serves; skypilot: any that SkyPilot knows.
CLOUDS_OF: dict[str, tuple[str, ...]] = {"local": ("local",), "aws": ("aws",), "ray": ("ray",)}


@dataclass(frozen=True, slots=True)
class Timing:
    """How often a controller asks a provider, and for how long it waits, in seconds."""

    list_s: float = 10.0  # between listings of machines
    least_s: float = 2.0  # the same, when something has happened
    price_s: float = 60.0  # between looks at prices
    call_s: float = 60.0  # limit of a call; providers have limits of their own, this one is for when those fail
    launch_s: float = 300.0  # limit of a launch
    settle_s: float = 60.0  # for how long a new machine may be missing in listings


TIMINGS: dict[ProviderName, Timing] = {
    "local": Timing(0.5, 0.05, 0.5, 15.0, 30.0, 1.0),
    "aws": Timing(),
    "skypilot": Timing(30.0, 10.0, 300.0, 120.0, 1_800.0, 120.0),
    "ray": Timing(2.0, 0.5, 60.0, 30.0, 120.0, 10.0),
}


def timing_of(spec: ServiceSpec) -> Timing:
    """Of the spec's provider."""
    return TIMINGS[provider_name(spec)]


def provider_name(spec: ServiceSpec) -> ProviderName:
    """Who gets the machines: as the spec says, else by the cloud of its resources, else this machine.

    Raises ConfigError where the resources name several clouds and one provider cannot serve both.
    """
    if spec.provider is not None:
        return spec.provider
    clouds = {cloud for cloud, _, _ in (offer.place for offer in spec.resources.offers) if cloud}
    if not clouds:
        return "local"
    if len(clouds) > 1:
        return "skypilot"  # the only one that spans clouds
    cloud = clouds.pop()
    return next((name for name in NAMES if name == cloud), "skypilot")


def make_provider(spec: ServiceSpec, pool: str) -> Provider:
    """The spec's provider. Raises ConfigError where it is not installed, Misconfigured where it cannot work."""
    name = provider_name(spec)
    module = f"skyfog_pool.provider.{name}"
    try:
        make = importlib.import_module(module).make
    except ModuleNotFoundError as error:
        raise ConfigError(f"provider {name}: {error.name} is not installed") from None
    return cast(Provider, make(spec, pool))
