"""A machine's name, where a provider has no tags: it carries what they would, and the same name is the same machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from skyfog_pool.provider.base import LaunchRefused, Order

_NAME = re.compile(r"skyfog-(?P<pool>.+)-r(?P<replica>\d+)-v(?P<version>\d+)-(?P<token>[A-Za-z0-9]+)")


@dataclass(frozen=True, slots=True)
class Tags:
    """What a name says."""

    pool: str
    replica: int
    version: int
    token: str


def machine_name(order: Order) -> str:
    """The name of an order's machine. Raises LaunchRefused for a token that no name may hold."""
    name = f"{name_prefix(order.pool)}{order.replica}-v{order.version}-{order.token}"
    if tags_of(name) != Tags(order.pool, order.replica, order.version, order.token):
        raise LaunchRefused("rejected", f"token {order.token!r} is not of letters and digits")
    return name


def name_prefix(pool: str) -> str:
    """How the names of a pool's machines begin; those of another pool may, too: tags_of() tells."""
    return f"skyfog-{pool}-r"


def tags_of(name: str) -> Tags | None:
    """None for what is not a pool's."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return Tags(found["pool"], int(found["replica"]), int(found["version"]), found["token"])


def pool_of(name: str) -> str | None:
    """Whose it is; None for nobody's."""
    tags = tags_of(name)
    return None if tags is None else tags.pool
