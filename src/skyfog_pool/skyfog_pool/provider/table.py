"""Providers by name; a cloud's own library is imported only when its provider is made."""

from __future__ import annotations

import importlib
from typing import cast, get_args

from skyfog_core.config.pool import ProviderName, ServiceSpec
from skyfog_core.errors import ConfigError
from skyfog_pool.provider.base import Provider

NAMES: tuple[ProviderName, ...] = get_args(ProviderName)


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
