"""Service types by name, and what can be known of them without running ROS."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError

_RIHS01 = "RIHS01_"


def _split(name: str) -> tuple[str, str]:
    parts = name.split("/")
    if len(parts) == 3 and parts[1] == "srv" and all(parts):
        return parts[0], parts[2]
    if len(parts) == 2 and all(parts):
        return parts[0], parts[1]
    raise ConfigError(f"type {name!r}: not <package>/srv/<Service>, such as skyfog_interfaces/srv/Detect")


def service_type(name: str) -> Any:
    """The class of a service type, e.g. "std_srvs/srv/Trigger". Raises ConfigError that says what there is instead."""
    package, service = _split(name)
    try:
        module = importlib.import_module(f"{package}.srv")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == package
        why = "no such package in this environment (is its workspace sourced?)" if missing else str(error)
        raise ConfigError(f"type {name!r}: {package}: {why}") from None
    found = getattr(module, service, None)
    if found is None or not hasattr(found, "Request"):
        known = sorted(n for n in dir(module) if hasattr(getattr(module, n), "Request"))
        raise ConfigError(
            f"type {name!r}: {package} has no service {service!r}{nearest(service, known)} (it has: {', '.join(known)})"
        )
    return found


def type_hash(name: str) -> bytes:
    """The 32 bytes of the type's RIHS01 hash (REP-2016), from its installed description. Raises ConfigError."""
    package, service = _split(name)
    try:
        path = Path(get_package_share_directory(package)) / "srv" / f"{service}.json"
        described = json.loads(path.read_text())["type_hashes"]
    except (PackageNotFoundError, OSError, ValueError, KeyError) as error:
        raise ConfigError(f"type {name!r}: no type description is installed: {error}") from None
    hashes = {entry["type_name"]: entry["hash_string"] for entry in described}
    text = hashes.get(f"{package}/srv/{service}", "")
    if not text.startswith(_RIHS01) or len(text) != len(_RIHS01) + 64:
        raise ConfigError(f"type {name!r}: {path} holds no {_RIHS01} hash")
    return bytes.fromhex(text.removeprefix(_RIHS01))


def has_status(service: Any) -> bool:
    """Whether responses of this type carry a skyfog_interfaces/Status in a field named `status`."""
    fields: dict[str, str] = service.Response.get_fields_and_field_types()
    return fields.get("status") == "skyfog_interfaces/Status"
