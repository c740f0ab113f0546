"""Service files: loaded, checked against what stands outside them, and told apart by what runs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from skyfog_core.config.base import load_yaml, nearest, parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_core.errors import ConfigError
from skyfog_core.wire.keys import chunk, service_chunk
from skyfog_pool import report
from skyfog_pool.policy.market import Zone
from skyfog_pool.provider.table import CLOUDS_OF, provider_name
from skyfog_pool.store import Row

# What a machine runs by itself; the shell on it knows the variables (report.py).
DEFAULT_COMMAND = " ".join(
    (
        "exec ros2 launch skyfog_bringup cloud.launch.py",
        f'fleet:="${report.FLEET}"',
        f'zone:="${report.ZONE}"',
        f'replica:="${report.NAME}"',
        f'service:="${report.SERVICE}"',
        f'price_per_hour:="${report.PRICE}"',
        f'metrics_listen:="127.0.0.1:${report.SERVICE_PORT}"',
        f'connect:="${report.CONNECT}"',
    )
)
# What a live change may touch; a change of anything else is a new version, which rolls out.
_LIVE = {
    "service": {"readiness_probe", "replica_policy", "replicas", "load_balancing_policy"},
    "resources": {"use_spot"},
}


def load(path: Path, name: str = "", provider: str = "") -> ServiceSpec:
    """A service file, with the options that were given beside it. Raises ConfigError naming file, key and bounds."""
    spec = load_yaml(ServiceSpec, path)
    changes: dict[str, Any] = {}
    if name:
        changes["name"] = name
    elif spec.name is None:
        changes["name"] = path.stem.lower().replace("_", "-").replace(".", "-")
    if provider:
        changes["provider"] = provider
    changes["envs"] = {key: _value(path, key, value) for key, value in spec.envs.items()}
    if spec.workdir is not None:
        changes["workdir"] = str(_local(path, "workdir", spec.workdir))
    changes["file_mounts"] = {
        remote: str(_local(path, f"file_mounts.{remote}", local)) if _is_path(local) else local
        for remote, local in spec.file_mounts.items()
    }
    tls = {key: str(_local(path, f"skyfog.tls.{key}", file)) for key, file in spec.skyfog.tls if file}
    changes["skyfog"] = spec.skyfog.model_dump() | {"tls": tls}
    source = str(path) if not (name or provider) else f"{path} with the options given"
    checked = parse(ServiceSpec, spec.model_dump() | changes, source)
    _check_names(path, checked)
    _check_provider(path, checked)
    return checked


def check_zones(path: Path, spec: ServiceSpec, zones: list[Zone]) -> None:
    """That every place that the file names is among those of the provider. Raises ConfigError."""
    if not zones:
        raise ConfigError(f"{path}: resources: the provider has no zone that they allow")
    names = {zone.name for zone in zones} | {zone.name.rpartition("/")[2] for zone in zones}
    regions = {zone.region for zone in zones}
    for offer in spec.resources.offers:
        _, region, zone = offer.place
        for kind, wanted, known in (("region", region, regions), ("zone", zone, names)):
            if wanted and wanted not in known:
                hint = nearest(wanted, sorted(known))
                raise ConfigError(f"{path}: resources: no {kind} {wanted!r}{hint} (known: {', '.join(sorted(known))})")


def to_store(spec: ServiceSpec) -> str:
    """As JSON."""
    return spec.model_dump_json(exclude_defaults=True)


def parse_stored(text: str) -> ServiceSpec:
    """Raises ConfigError where a later Skyfog wrote what this one does not know."""
    return parse(ServiceSpec, json.loads(text), "the pool's stored service file")


def runs_hash(spec: ServiceSpec) -> str:
    """Of all that a replica runs, and on what: specs with the same hash differ in policy alone."""
    values = spec.model_dump(mode="json", exclude=_LIVE)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def service_name(spec: ServiceSpec, pool: str) -> str:
    """The ROS service that the replicas answer."""
    return spec.skyfog.service or f"/{pool.replace('-', '_')}"


def order_environment(spec: ServiceSpec, pool: str, row: Row, price_per_hour: float) -> dict[str, str]:
    """Of a replica's runner, and of what it runs; the provider adds where its runner listens and hears notices."""
    own = {
        report.POOL: pool,
        report.REPLICA: str(row.id),
        report.NAME: report.replica_name(pool, row.id),
        report.VERSION: str(row.version),
        report.ZONE: row.zone,
        report.MARKET: row.market,
        report.PRICE: f"{price_per_hour:.6g}",
        report.FLEET: spec.skyfog.fleet,
        report.SERVICE: service_name(spec, pool),
        report.CONNECT: ",".join(spec.skyfog.replicas_connect or spec.skyfog.connect),
        report.COMMAND: spec.run or DEFAULT_COMMAND,
        report.SETUP: spec.setup,
        report.ON_NOTICE: spec.service.replica_policy.on_notice,
        report.DRAIN_S: f"{spec.service.replica_policy.drain_seconds:g}",
        report.GRACE_S: f"{spec.service.replica_policy.drain_seconds:g}",
    }
    return {key: str(value) for key, value in spec.envs.items()} | own


def _value(path: Path, key: str, value: str | int | float | None) -> str:
    """Of an entry of `envs`; one without a value is taken from our own environment, as SkyPilot asks for it."""
    if value is None:
        value = os.environ.get(key)
    if value is None:
        raise ConfigError(f"{path}: envs.{key}: has no value, and the environment has none for it")
    if key.startswith("SKYFOG_"):
        raise ConfigError(f"{path}: envs.{key}: names that begin with SKYFOG_ are set by the pool")
    return str(value)


def _is_path(local: Any) -> bool:
    return isinstance(local, str) and "://" not in local


def _local(path: Path, key: str, value: str) -> Path:
    """A path of this machine, taken from the file's folder. Raises ConfigError where nothing is there."""
    found = (path.parent / Path(value).expanduser()).resolve()
    if not found.exists():
        raise ConfigError(f"{path}: {key}: nothing is at {found}")
    return found


def _check_names(path: Path, spec: ServiceSpec) -> None:
    try:
        chunk("fleet", spec.skyfog.fleet)
        service_chunk(service_name(spec, spec.name or ""))
    except ConfigError as error:
        raise ConfigError(f"{path}: skyfog: {error}") from None


def _check_provider(path: Path, spec: ServiceSpec) -> None:
    """That the provider can serve the clouds that the resources name."""
    name = provider_name(spec)
    allowed = CLOUDS_OF.get(name)
    for offer in spec.resources.offers:
        cloud = offer.place[0]
        if cloud and allowed is not None and cloud not in allowed:
            raise ConfigError(
                f"{path}: resources: provider {name} has no cloud {cloud!r} (known: {', '.join(allowed)}); "
                "provider: skypilot has the others"
            )
