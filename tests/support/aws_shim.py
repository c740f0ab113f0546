"""AWS on loopback: moto's server, and in front of it what moto lacks or has otherwise than AWS.

    python -m support.aws_shim PORT     serves until it is ended; `GET /_shim/machines` answers once it is up

What is added: client tokens count (the same token, the same machine; other parameters, an error), prices of spot that
differ by zone and change, a price list, types that do not exist are refused, refusals by action, zone and type, server
errors, throttling, hangs, answers that are lost, wrong keys, interruptions with their state reason, spot requests that
are marked for termination, and each machine's metadata service below /_imds/<instance>.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HANG_LIMIT_S = 30.0
REGIONS = ("eu-central-1", "us-east-1", "us-west-2")  # that the account has enabled
WRONG_KEY = "AKIAWRONG"
NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
ON_DEMAND = {"m6i.large": 0.096, "m6i.xlarge": 0.192, "m7i.large": 0.1008, "c6i.xlarge": 0.17, "g5.xlarge": 1.006}
PAGE = 3  # items of a listing that the shim answers itself

Answer = tuple[int, str, bytes]
Start = Callable[[str, list[tuple[str, str]]], Any]


@dataclass
class Rule:
    """What happens to calls that match, `times` times. An empty `code` and no hang: nothing."""

    action: str = ""  # RunInstances, …; empty: any
    zone: str = ""
    kind: str = ""  # type of machine
    code: str = ""
    status: int = 400
    times: int = 1_000_000
    after: bool = False  # the call takes effect, and only its answer is lost
    hang: bool = False
    service: str = "ec2"
    region: str = ""

    def fits(self, region: str, service: str, action: str, zones: set[str], kind: str) -> bool:
        wanted = ((self.region, region), (self.service, service), (self.action, action), (self.kind, kind))
        return self.times > 0 and all(not w or w == had for w, had in wanted) and (not self.zone or self.zone in zones)


@dataclass
class State:
    """What a test has set, and what was seen."""

    rules: list[Rule] = field(default_factory=list)
    prices: dict[str, float] = field(default_factory=dict)  # spot, by zone
    tokens: dict[tuple[str, str, str], tuple[str, Answer]] = field(default_factory=dict)
    locks: dict[tuple[str, str, str], threading.Lock] = field(default_factory=dict)
    marked: dict[str, float] = field(default_factory=dict)  # Unix time at which a machine goes
    rebalance: set[str] = field(default_factory=set)
    imds_tokens: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    last: dict[str, dict[str, str]] = field(default_factory=dict)  # parameters of the last call of an action
    lock: threading.Lock = field(default_factory=threading.Lock)
    go_on: threading.Event = field(default_factory=threading.Event)  # ends hangs


class Shim:
    """WSGI, around moto's."""

    def __init__(self, moto: Any, backends: Any, types: Iterable[str]) -> None:
        self._moto, self._ec2, self._types = moto, backends, set(types)
        self.state = State()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path.startswith("/_shim/"):
            return _send(start, self._admin(path.removeprefix("/_shim/"), _body(environ)))
        if path.startswith("/_imds/"):
            return _send(start, self._metadata(path.removeprefix("/_imds/"), environ))
        scope = _scope(environ)
        if scope is None:
            return self._moto(environ, start)  # type: ignore[no-any-return]  # a signed URL
        key, region, service = scope
        if key == WRONG_KEY:
            return _send(start, _failure(service, 401, "AuthFailure", "AWS was not able to validate the credentials"))
        params = _parameters(_body(environ)) if service != "s3" else {}
        target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        action = params.get("Action") or target or environ["REQUEST_METHOD"]
        with self.state.lock:
            self.state.calls[action] += 1
            self.state.last[action] = params
        rule = self._rule(region, service, action, params)
        if rule is None and service == "s3":
            return self._moto(environ, start)  # type: ignore[no-any-return]
        if rule is None or rule.after:
            answer = self._answer(environ, region, service, action, params)
        return _send(start, answer if rule is None else self._obey(rule, service))

    # -- calls of AWS -------------------------------------------------------------------------------------------------

    def _answer(
        self, environ: dict[str, Any], region: str, service: str, action: str, params: dict[str, str]
    ) -> Answer:
        token = params.get("ClientToken", "")
        if action in {"RunInstances", "CreateFleet"} and token:
            key = (region, action, token)
            with self.state.lock:
                lock = self.state.locks.setdefault(key, threading.Lock())
            with lock:
                return self._once(environ, region, params, key)
        if action == "DescribeSpotPriceHistory":
            return self._price_history(region, params)
        if action == "DescribeSpotInstanceRequests":
            return self._spot_requests()
        if action == "DescribeRegions":
            items = "".join(f"<item><regionName>{name}</regionName></item>" for name in REGIONS)
            return _xml("DescribeRegionsResponse", f"<regionInfo>{items}</regionInfo>")
        if service == "pricing":
            return self._price_list(json.loads(_body(environ)))
        return self._pass(environ)

    def _once(self, environ: dict[str, Any], region: str, params: dict[str, str], key: tuple[str, str, str]) -> Answer:
        said = json.dumps(params, sort_keys=True)
        if key in self.state.tokens:
            first, answer = self.state.tokens[key]
            if first != said:
                return _failure("ec2", 400, "IdempotentParameterMismatch", "the token was used with other parameters")
            return answer
        wrong = [
            kind
            for name, kind in params.items()
            if name.rpartition(".")[2] == "InstanceType" and kind not in self._types
        ]
        if wrong:
            return _failure("ec2", 400, "InvalidParameterValue", f"Invalid value '{wrong[0]}' for InstanceType.")
        if key[1] == "CreateFleet":
            answer = self._fleet(environ, region, params)
        else:
            answer = self._pass(environ)
        if answer[0] == 200:
            self.state.tokens[key] = (said, answer)
        return answer

    def _fleet(self, environ: dict[str, Any], region: str, params: dict[str, str]) -> Answer:
        """Of the overrides that nothing speaks against, the cheapest; of none, the reasons, and status 200."""
        prefix = "LaunchTemplateConfigs.1.Overrides."
        numbers = sorted({int(name.split(".")[3]) for name in params if name.startswith(prefix)})
        left, errors = [], []
        for number in numbers:
            kind, subnet = params[f"{prefix}{number}.InstanceType"], params[f"{prefix}{number}.SubnetId"]
            zone = self._zone_of(subnet)
            rule = self._rule(region, "ec2", "Override", {"SubnetId": subnet, "InstanceType": kind})
            if rule is not None:
                errors.append((kind, rule.code))
            else:
                left.append((self._spot_price(zone, kind), number))
        if not left:
            items = "".join(
                f"<item><errorCode>{code}</errorCode><errorMessage>no {kind}</errorMessage></item>"
                for kind, code in errors
            )
            return _xml("CreateFleetResponse", f"<fleetId>fleet-0</fleetId><errorSet>{items}</errorSet>")
        _, best = min(left)
        kept = {name: value for name, value in params.items() if not name.startswith(prefix)}
        kept[f"{prefix}1.InstanceType"] = params[f"{prefix}{best}.InstanceType"]
        kept[f"{prefix}1.SubnetId"] = params[f"{prefix}{best}.SubnetId"]
        body = urllib.parse.urlencode(kept).encode()
        return self._pass({**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})

    def _price_history(self, region: str, params: dict[str, str]) -> Answer:
        kinds = [value for name, value in sorted(params.items()) if name.startswith("InstanceType.")]
        zones = [zone.name for zone in self._backend(region).describe_availability_zones()]
        now = datetime.now(UTC)
        entries = [
            (zone, kind, self._spot_price(zone, kind) * factor, now - timedelta(hours=age))
            for zone in zones
            for kind in kinds
            for factor, age in ((1.5, 30), (1.0, 1))  # an older price comes first, as a trap
        ]
        begin = int(params.get("NextToken") or 0)
        items = "".join(
            f"<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{usd:.6f}</spotPrice><timestamp>{at:%Y-%m-%dT%H:%M:%S}.000Z</timestamp>"
            f"<availabilityZone>{zone}</availabilityZone></item>"
            for zone, kind, usd, at in entries[begin : begin + PAGE]
        )
        following = str(begin + PAGE) if begin + PAGE < len(entries) else ""
        body = f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{following}</nextToken>"
        return _xml("DescribeSpotPriceHistoryResponse", body)

    def _spot_requests(self) -> Answer:
        items = "".join(
            f"<item><spotInstanceRequestId>sir-{instance[2:10]}</spotInstanceRequestId><state>active</state>"
            f"<status><code>marked-for-termination</code>"
            f"<updateTime>{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at - 120))}</updateTime></status>"
            f"<instanceId>{instance}</instanceId></item>"
            for instance, at in self.state.marked.items()
        )
        return _xml("DescribeSpotInstanceRequestsResponse", f"<spotInstanceRequestSet>{items}</spotInstanceRequestSet>")

    @staticmethod
    def _price_list(asked: dict[str, Any]) -> Answer:
        kind = next(item["Value"] for item in asked["Filters"] if item["Field"] == "instanceType")
        listed = []
        if kind in ON_DEMAND:
            dimension = {"r": {"unit": "Hrs", "pricePerUnit": {"USD": f"{ON_DEMAND[kind]:.10f}"}}}
            listed = [json.dumps({"terms": {"OnDemand": {"t": {"priceDimensions": dimension}}}})]
        return 200, "application/x-amz-json-1.1", json.dumps({"PriceList": listed}).encode()

    def _pass(self, environ: dict[str, Any]) -> Answer:
        told: list[Any] = []

        def begin(status: str, headers: list[tuple[str, str]], _exc: Any = None) -> None:
            told[:] = [int(status.split(maxsplit=1)[0]), headers]

        content = b"".join(self._moto(environ, begin))
        headers = {name.lower(): value for name, value in told[1]}
        return told[0], headers.get("content-type", "text/xml"), content

    # -- faults -------------------------------------------------------------------------------------------------------

    def _rule(self, region: str, service: str, action: str, params: Mapping[str, str]) -> Rule | None:
        zones = {self._zone_of(value) for name, value in params.items() if name.endswith("SubnetId")}
        kind = params.get("InstanceType", "")
        with self.state.lock:
            for rule in self.state.rules:
                if rule.fits(region, service, action, zones, kind):
                    rule.times -= 1
                    return rule
        return None

    def _obey(self, rule: Rule, service: str) -> Answer:
        if rule.hang:
            self.state.go_on.wait(HANG_LIMIT_S)
        return _failure(service, rule.status, rule.code or "ServiceUnavailable", "injected by the test")

    # -- moto's books -------------------------------------------------------------------------------------------------

    def _backend(self, region: str) -> Any:
        return self._ec2["123456789012"][region]

    def _zone_of(self, subnet: str) -> str:
        for backend in list(self._ec2["123456789012"].values()):
            for by_id in backend.subnets.values():
                if subnet in by_id:
                    return str(by_id[subnet].availability_zone)
        return ""

    def _machines(self) -> list[Any]:
        return [
            instance
            for backend in list(self._ec2["123456789012"].values())  # launches go on meanwhile
            for reservation in list(backend.reservations.values())
            for instance in reservation.instances
        ]

    def _spot_price(self, zone: str, kind: str) -> float:
        """A third to a half of the price on demand, different by zone and type, and always the same."""
        if zone in self.state.prices:
            return self.state.prices[zone]
        return ON_DEMAND.get(kind, 0.2) * (0.33 + 0.17 * (zlib.crc32(f"{zone}/{kind}".encode()) % 100) / 100)

    # -- what tests ask of the shim -----------------------------------------------------------------------------------

    def _admin(self, verb: str, body: bytes) -> Answer:
        asked = json.loads(body) if body else {}
        answer: Any = {}
        state = self.state
        if verb == "machines":
            answer = [
                {
                    "id": machine.id,
                    "state": machine._state.name,
                    "tags": {tag["key"]: tag["value"] for tag in machine.get_tags()},
                    "lifecycle": machine.lifecycle,
                    "user_data": str(machine.user_data or ""),
                    "type": machine.instance_type,
                }
                for machine in self._machines()
            ]
        elif verb == "rule":
            state.go_on.clear()
            state.rules.append(Rule(**asked))
        elif verb == "heal":
            state.rules.clear()
            state.prices.clear()
            state.marked.clear()
            state.rebalance.clear()
            state.go_on.set()
        elif verb == "price":
            state.prices[asked["zone"]] = asked["usd"]
        elif verb == "notice":
            state.marked[asked["id"]] = time.time() + asked.get("in_s", 120)
        elif verb == "rebalance":
            state.rebalance.add(asked["id"])
        elif verb == "forget_tokens":  # of metadata services, and of launches, as EC2 does after a while
            state.imds_tokens.clear()
            state.tokens.clear()
        elif verb == "address":
            machine = next(machine for machine in self._machines() if machine.id == asked["id"])
            machine.nics[0].private_ip_address = asked["address"]
        elif verb == "end":
            self._end(asked["id"], asked["code"])
        elif verb == "calls":
            answer = {"calls": state.calls, "last": state.last}
        else:
            return 404, "text/plain", verb.encode()
        return 200, "application/json", json.dumps(answer).encode()

    def _end(self, instance: str, code: str) -> None:
        machine = next(machine for machine in self._machines() if machine.id == instance)
        machine.terminate()
        machine.state_reason.code = code
        machine.state_reason.message = f"{code}: ended by the test"
        self.state.marked.pop(instance, None)

    def _metadata(self, path: str, environ: dict[str, Any]) -> Answer:
        """IMDSv2 of one machine, as EC2's documentation has it."""
        instance, _, rest = path.partition("/")
        if rest == "latest/api/token":
            if environ["REQUEST_METHOD"] != "PUT" or "HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS" not in environ:
                return 400, "text/plain", b""
            token = os.urandom(8).hex()
            self.state.imds_tokens.add(token)
            return 200, "text/plain", token.encode()
        if environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN", "") not in self.state.imds_tokens:
            return 401, "text/plain", b""
        with self.state.lock:
            self.state.calls[f"imds {rest}"] += 1
        at = self.state.marked.get(instance)
        if rest == "latest/meta-data/spot/instance-action" and at is not None:
            goes = datetime.fromtimestamp(at, UTC)
            action = {"action": "terminate", "time": f"{goes:%Y-%m-%dT%H:%M:%SZ}"}
            return 200, "application/json", json.dumps(action).encode()
        if rest == "latest/meta-data/events/recommendations/rebalance" and instance in self.state.rebalance:
            return 200, "application/json", b'{"noticeTime": "2026-01-02T03:04:05Z"}'
        return 404, "text/plain", b""


# -- HTTP -------------------------------------------------------------------------------------------------------------


def _body(environ: dict[str, Any]) -> bytes:
    """Of a request, as often as wanted."""
    if "shim.body" not in environ:
        environ["shim.body"] = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body: bytes = environ["shim.body"]
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _scope(environ: dict[str, Any]) -> tuple[str, str, str] | None:
    """Key, region and service, from `Credential=KEY/DATE/REGION/SERVICE/aws4_request`."""
    found = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
    return (found[0], found[2], found[3]) if len(found) == 5 else None


def _parameters(body: bytes) -> dict[str, str]:
    try:
        return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
    except UnicodeDecodeError:
        return {}


def _send(start: Start, answer: Answer) -> list[bytes]:
    status, kind, content = answer
    start(f"{status} told", [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


def _xml(name: str, inside: str) -> Answer:
    text = f'<{name} xmlns="{NAMESPACE}"><requestId>0</requestId>{inside}</{name}>'
    return 200, "text/xml", text.encode()


def _failure(service: str, status: int, code: str, message: str) -> Answer:
    if service == "pricing":
        return status, "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}).encode()
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    if service == "s3":
        return status, "text/xml", error.encode()
    if service == "sts":
        text = f"<ErrorResponse>{error}<RequestId>0</RequestId></ErrorResponse>"
        return status, "text/xml", text.encode()
    return status, "text/xml", f"<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>".encode()


def _image(number: int, owner: str, name: str, device: str, architecture: str = "x86_64") -> dict[str, Any]:
    return {
        "ami_id": f"ami-{number:017x}",
        "state": "available",
        "public": True,
        "owner_id": owner,
        "image_location": f"{owner}/{name}",
        "sriov": "simple",
        "root_device_type": "ebs",
        "root_device_name": device,
        "description": name,
        "image_type": "machine",
        "platform": None,
        "architecture": architecture,
        "name": name,
        "virtualization_type": "hvm",
        "hypervisor": "xen",
    }


IMAGES = [
    _image(1, "136693071363", "debian-12-amd64-20250101-1", "/dev/xvda"),
    _image(2, "136693071363", "debian-12-arm64-20250101-1", "/dev/xvda", "arm64"),
    _image(3, "amazon", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20250101", "/dev/sda1"),
]


def main(port: int) -> None:
    """Serve until ended."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.json"
        images.write_text(json.dumps(IMAGES))
        os.environ["MOTO_AMIS_PATH"] = str(images)  # read when moto is imported
        from moto.ec2.models import ec2_backends
        from moto.ec2.models.instance_types import INSTANCE_TYPES
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    shim = Shim(DomainDispatcherApplication(create_backend_app), ec2_backends, INSTANCE_TYPES)
    make_server("127.0.0.1", port, shim, threaded=True, request_handler=Quiet).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
