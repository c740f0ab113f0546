"""What a machine can ask about itself, in the words of the real clouds: a look-alike of their metadata services.

As much as machines ask for:

PUT /latest/api/token                          EC2's IMDSv2: a session token; without one, 401
GET /latest/meta-data/spot/instance-action     404 until there is a notice
GET /latest/meta-data/events/recommendations/rebalance, placement/availability-zone, instance-id, …
GET /computeMetadata/v1/instance/preempted     Compute Engine: TRUE or FALSE, with header Metadata-Flavor: Google
GET /metadata/scheduledevents                  Azure, with header Metadata: true
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from skyfog_pool.notices import Written
from skyfog_pool.policy.market import Market

TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105  # a header's name
TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105  # a header's name
MAX_TTL_S = 21_600
MAX_TOKENS = 1_000  # of one machine; the oldest goes


@dataclass(slots=True)
class About:
    """What is told of a machine. `notice` changes."""

    id: str
    zone: str
    region: str
    market: Market
    notice: Written | None = None


class Metadata:
    """The service of one machine."""

    def __init__(self, about: About, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._about = about
        self._steady_s = steady_s
        self._tokens: dict[str, float] = {}  # and until when each holds
        self.app = Starlette(
            routes=[
                Route("/latest/api/token", self._token, methods=["PUT"]),
                Route("/latest/meta-data/{path:path}", self._aws),
                Route("/computeMetadata/v1/instance/preempted", self._gcp),
                Route("/metadata/scheduledevents", self._azure),
            ]
        )

    async def _token(self, request: Request) -> Response:
        if "X-Forwarded-For" in request.headers:  # as EC2: a proxy must not ask for others
            return PlainTextResponse("", 403)
        wanted = request.headers.get(TOKEN_TTL, "")
        if not wanted.isdecimal() or not 1 <= int(wanted) <= MAX_TTL_S:
            return PlainTextResponse("", 400)
        token = secrets.token_urlsafe(40)
        self._tokens[token] = self._steady_s() + int(wanted)
        while len(self._tokens) > MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        return PlainTextResponse(token, headers={TOKEN_TTL: wanted})

    async def _aws(self, request: Request) -> Response:
        if self._tokens.get(request.headers.get(TOKEN, ""), 0.0) <= self._steady_s():
            return PlainTextResponse("", 401)
        value = self._values().get(request.path_params["path"].rstrip("/"))
        return PlainTextResponse("", 404) if value is None else PlainTextResponse(value)

    def _values(self) -> Mapping[str, str | None]:
        about, notice = self._about, self._about.notice
        values: dict[str, str | None] = {
            "instance-id": about.id,
            "instance-life-cycle": "spot" if about.market == "spot" else "on-demand",
            "placement/availability-zone": about.zone,
            "placement/region": about.region,
        }
        if notice is not None and notice.kind == "interruption":
            at = _iso(notice.unix_s)
            values["spot/instance-action"] = json.dumps({"action": "terminate", "time": at})
            values["spot/termination-time"] = at
        elif notice is not None:
            values["events/recommendations/rebalance"] = json.dumps({"noticeTime": _iso(notice.unix_s)})
        return values

    async def _gcp(self, request: Request) -> Response:
        flavor = {"Metadata-Flavor": "Google"}
        if request.headers.get("Metadata-Flavor") != "Google":
            return PlainTextResponse("", 403, headers=flavor)
        return PlainTextResponse("TRUE" if self._goes else "FALSE", headers=flavor)

    async def _azure(self, request: Request) -> Response:
        if request.headers.get("Metadata", "").lower() != "true" or "api-version" not in request.query_params:
            return JSONResponse({"error": "Bad request. Required metadata header not specified"}, 400)
        notice = self._about.notice
        events = []
        if self._goes and notice is not None:
            events.append(
                {
                    "EventId": self._about.id,
                    "EventType": "Preempt",
                    "ResourceType": "VirtualMachine",
                    "Resources": [self._about.id],
                    "EventStatus": "Scheduled",
                    "NotBefore": formatdate(notice.unix_s, usegmt=True),
                }
            )
        return JSONResponse({"DocumentIncarnation": len(events), "Events": events})

    @property
    def _goes(self) -> bool:
        return self._about.notice is not None and self._about.notice.kind == "interruption"


def _iso(unix_s: float | None) -> str:
    return datetime.fromtimestamp(unix_s or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
