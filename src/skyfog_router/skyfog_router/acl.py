"""Who may do what on the fleet's network, as zenoh's access control by the common names of certificates.

Zenoh compares common names as a whole, so that a name says the role and what the role is about, never the machine:

    robot/<fleet>               asks replicas and withdraws, watches who is live, tells its load
    replica/<fleet>/<service>   answers for its one service, says that it is live, tells its load, hears withdrawals
    router/<fleet>              passes on whatever belongs to the fleet
    pool/<fleet>                watches who is live, hears the load of robots and replicas, and says nothing
    car/<fleet>                 sends frames to gateways and hears their answers, watches who of them is live
    gateway/<fleet>             the other end; towards the replicas it is a robot, with a robot's certificate

A car has to do with gateways only: it can ask no replica, and no replica sees it. As robots do, the cars of a fleet
share one common name, so that they trust each other: one could send frames in another's name.

What is not allowed here is denied, and a peer of any other name, or of none, may do nothing. Every process with
certificates applies the same table to every link, whichever end dialled: `ingress` is what the peer says to us,
`egress` what we tell the peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from skyfog_core.errors import ConfigError
from skyfog_core.wire.keys import ServiceKeys, UplinkKeys, all_of_fleet, chunk, service_chunk

Role = Literal["robot", "replica", "router", "pool", "car", "gateway"]
ROLES: tuple[Role, ...] = get_args(Role)
MAX_NAME_CHARS = 64  # X.509's limit for a common name

# Zenoh's message kinds by the keys that they travel on, and who says them: what those on one side say, those on the
# other are told. The tokens that are there already come as the answer to a query of their own.
WATCH = ["declare_liveliness_subscriber", "liveliness_query"]
SAYS: dict[str, dict[Role, list[str]]] = {
    "replica": {"robot": ["query"], "replica": ["reply", "declare_queryable"]},
    "cancel": {"robot": ["put"], "replica": ["declare_subscriber"]},
    "live": {"robot": WATCH, "pool": WATCH, "replica": ["liveliness_token"]},
    "load/replica": {"pool": ["declare_subscriber"], "replica": ["put"]},
    "load/robot": {"pool": ["declare_subscriber"], "robot": ["put"]},
}
UPLINK_SAYS: dict[str, dict[Role, list[str]]] = {
    "up": {"car": ["put"], "gateway": ["declare_subscriber"]},
    "down": {"gateway": ["put"], "car": ["declare_subscriber"]},
    "live": {"car": WATCH, "gateway": ["liveliness_token"]},
}
EVERYTHING = ["delete", *sorted({kind for says in SAYS.values() for kinds in says.values() for kind in kinds})]


@dataclass(frozen=True, slots=True)
class Member:
    """A process of a fleet: its role, and the services that it asks, answers or passes on; cars and gateways: none."""

    role: Role
    fleet: str
    services: tuple[str, ...]

    @property
    def name(self) -> str:
        """The common name that its certificate must bear. Raises ConfigError."""
        return common_name(self.role, self.fleet, self.services[0] if self.role == "replica" else "")


def common_name(role: str, fleet: str, service: str = "") -> str:
    """The common name of a role; `service` for a replica only. Raises ConfigError for names that make none."""
    if role not in ROLES:
        raise ConfigError(f"role {role!r}: one of {', '.join(ROLES)}")
    if (role == "replica") != bool(service):
        raise ConfigError(f"a {role}'s certificate names {'its service' if role == 'replica' else 'no service'}")
    parts = [role, chunk("fleet", fleet)]
    if service:
        parts.append(service_chunk(service))
    name = "/".join(parts)
    if len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"{name!r}: {len(name)} characters; a certificate's name holds {MAX_NAME_CHARS}")
    return name


def access_control(fleet: str, services: Sequence[str]) -> dict[str, Any]:
    """Zenoh's `access_control` for any process that has to do with `services`. Raises ConfigError."""
    of_services = list({service_chunk(service): service for service in services}.values())  # `/detect` is `detect`
    keys = {service: ServiceKeys(fleet, service) for service in of_services}
    uplink = UplinkKeys(fleet)
    rules: list[dict[str, Any]] = []
    policies: list[dict[str, Any]] = []

    def allow(who: str, flow: str, messages: list[str], on: list[str]) -> None:
        rules.append(
            {"id": str(len(rules)), "permission": "allow", "flows": [flow], "messages": messages, "key_exprs": on}
        )
        policies.append({"rules": [rules[-1]["id"]], "subjects": [who]})

    router = common_name("router", fleet)
    for part, says in SAYS.items() if keys else ():
        for role, kinds in says.items():
            for name, mine in _names(role, fleet, keys).items():
                allow(name, "ingress", kinds, [of.all_of(part) for of in mine])
                allow(name, "egress", _told(says, role), [of.all_of(part) for of in mine])
    for part, says in UPLINK_SAYS.items():
        for role, kinds in says.items():
            allow(common_name(role, fleet), "ingress", kinds, [uplink.all_of(part)])
            allow(common_name(role, fleet), "egress", _told(says, role), [uplink.all_of(part)])
    for flow in ("ingress", "egress"):
        allow(router, flow, EVERYTHING, [all_of_fleet(fleet)])
    names = dict.fromkeys(who for policy in policies for who in policy["subjects"])
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": [{"id": name, "cert_common_names": [name]} for name in names],
        "policies": policies,
    }


def _told(says: Mapping[Role, list[str]], role: Role) -> list[str]:
    """What others say, and a role is told."""
    return sorted({kind for other, said in says.items() if other != role for kind in said if kind not in says[role]})


def _names(role: Role, fleet: str, keys: Mapping[str, ServiceKeys]) -> dict[str, list[ServiceKeys]]:
    """The common names of a role, and the services that each has to do with."""
    if role == "replica":
        return {common_name(role, fleet, service): [of] for service, of in keys.items()}
    return {common_name(role, fleet): list(keys.values())}
