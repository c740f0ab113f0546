"""What a client does wrong is that client's alone, told in the API's form; the server goes on."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from support.faces import CONTEXT, Server
from support.processes import Processes, wait_until

HI = [{"role": "user", "content": "Hi"}]


def metric(http: httpx.Client, name: str, **labels: str) -> float:
    """The value of one series of /metrics."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    for line in http.get("/metrics").text.splitlines():
        if line.startswith((f"skyfog:{name}{{", f"skyfog:{name} ")) and all(each in line for each in wanted):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {name}")


def chat(http: httpx.Client, **fields: Any) -> httpx.Response:
    content = json.dumps({"model": "tiny", "messages": HI, "max_tokens": 3, **fields})  # NaN passes, as in Python
    return http.post("/v1/chat/completions", content=content)


@pytest.mark.parametrize(
    ("fields", "status", "param", "message"),
    [
        ({"model": "gpt"}, 404, "model", "there is no 'gpt'; there is 'tiny'"),
        ({"max_tokens": 0}, 400, "max_tokens", "should be between 1 and"),
        ({"temperature": float("nan")}, 400, "temperature", "should be between 0 and 100, not nan"),
        ({"temperature": "hot"}, 400, "temperature", "should be a valid number, not 'hot'"),
        ({"max_token": 1}, 400, "max_token", "did you mean 'max_tokens'"),
        ({"tools": [{}]}, 400, "tools", "is not supported here"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, 400, "prompt", f"the context of {CONTEXT}"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias", "is not supported"),
    ],
)
def test_a_wrong_field_is_named(
    http: httpx.Client, fields: dict[str, Any], status: int, param: str, message: str
) -> None:
    answer = chat(http, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert message in error["message"]
    assert chat(http).status_code == 200


def test_a_prompt_that_is_too_long_is_told_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=f"300 tokens.* {CONTEXT} ") as raised:
        client.completions.create(model="tiny", prompt="x" * 300)
    assert raised.value.code == "context_length_exceeded"


def test_a_token_that_the_model_does_not_have_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="token 9999 is not one of the model's"):
        client.completions.create(model="tiny", prompt=[9999])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"[" * 50_000, 400),
        ("POST", "/v1/chat/completions", b"\xff", 400),
        ("POST", "/v1/chat/completions", b"", 400),
        ("POST", "/v1/completions", b" " * (17 << 20), 413),
        ("GET", "/v1/completions", b"", 405),
        ("POST", "/v1/embeddings", b"{}", 404),
    ],
)
def test_what_is_no_request_is_told_so(http: httpx.Client, method: str, path: str, body: bytes, status: int) -> None:
    answer = http.request(method, path, content=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_more_requests_than_may_wait_are_asked_to_come_again(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json={"prompt": ["x"] * 300, "max_tokens": 200, "ignore_eos": True})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    _nothing_is_left(http)


def _nothing_is_left(http: httpx.Client) -> None:
    wait_until("no request", lambda: metric(http, "num_requests_running") + metric(http, "num_requests_waiting") == 0)
    assert metric(http, "kv_blocks_used") == 0


def _connected(server: Server, body: dict[str, Any]) -> socket.socket:
    """A client that has sent a request."""
    url = urlsplit(server.url)
    made = socket.create_connection((url.hostname or "", url.port or 0), timeout=30)
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    made.sendall(head.encode() + content)
    return made


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_withdraws_its_request(server: Server, http: httpx.Client, stream: bool) -> None:
    before = metric(http, "request_success_total", finished_reason="abort")
    body = {"prompt": ["x"] * 50, "max_tokens": 250, "ignore_eos": True, "stream": stream}
    with _connected(server, body) as made:
        wait_until("it runs", lambda: metric(http, "num_requests_running") > 0)
        if stream:
            assert made.recv(64).startswith(b"HTTP/1.1 200")
    wait_until("it is withdrawn", lambda: metric(http, "request_success_total", finished_reason="abort") > before)
    _nothing_is_left(http)


def test_a_half_sent_request_harms_nobody(server: Server, http: httpx.Client) -> None:
    url = urlsplit(server.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as made:
        made.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert chat(http).status_code == 200


def test_health_models_and_metrics_are_there(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    chat(http)
    assert metric(http, "time_to_first_token_seconds_count") > 0
    assert metric(http, "generation_tokens_total") > 0
    assert metric(http, "kv_blocks") > 0
    buckets = [
        float(line.rpartition(" ")[2])
        for line in http.get("/metrics").text.splitlines()
        if line.startswith("skyfog:e2e_request_latency_seconds_bucket")
    ]
    assert buckets == sorted(buckets)


def test_status_shows_a_table(server: Server, here: Callable[..., Any]) -> None:
    shown = here("status", server.url)
    assert shown.exit_code == 0
    assert "tokens drawn" in shown.output
    nobody = here("status", "http://127.0.0.1:9")
    assert nobody.exit_code == 1
    assert "skyfog infer status: http://127.0.0.1:9/metrics" in nobody.output


def test_a_key_is_asked_for_and_a_signal_lets_requests_end(tiny: Path, tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        server = Server(processes, str(tiny), "--api-key", "secret", "--name", "robot", "--max-context", "128")
        with httpx.Client(base_url=server.url, timeout=60) as http:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secre"}):
                answer = http.get("/v1/models", headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert http.get("/health").status_code == 200
            known = {"authorization": "Bearer secret"}
            assert http.get("/v1/models", headers=known).json()["data"][0]["max_model_len"] == 128
            body = {"model": "robot", "prompt": "x", "max_tokens": 120, "ignore_eos": True, "n": 20}
            answers: list[httpx.Response] = []

            def call() -> None:
                answers.append(http.post("/v1/completions", json=body, headers=known))

            def runs() -> bool:
                return 'num_requests_running{model_name="robot"} 0.0' not in http.get("/metrics").text

            caller = threading.Thread(target=call)
            caller.start()
            wait_until("it runs", runs)
            server.process.signal(signal.SIGTERM)
            caller.join(60)
        assert [answer.status_code for answer in answers] == [200]
        assert {choice["finish_reason"] for choice in answers[0].json()["choices"]} == {"length"}
        assert server.process.exit_status() == 0
        assert "served" in server.process.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no/such/model",), "no/such/model: is neither a folder"),
        (("--set", "engine.max_sequence=3"), "engine.max_sequence: unknown key; did you mean 'max_sequences'"),
        (("--port", "70000"), "server.port: input should be less than or equal to 65535"),
        (("--max-context", "9999"), "max_context: should be at most the model's 256"),
    ],
)
def test_a_wrong_set_up_is_told_by_key(
    here: Callable[..., Any], tiny: Path, words: tuple[str, ...], message: str
) -> None:
    model = () if words[0].startswith("no/") else (tiny,)
    ended = here("serve", *model, "--port", 0, *words)
    assert ended.exit_code == 2
    assert message in ended.output


def test_a_port_that_is_taken_is_told(here: Callable[..., Any], tiny: Path, server: Server) -> None:
    ended = here("serve", tiny, "--port", urlsplit(server.url).port)
    assert ended.exit_code == 2
    assert "server.port: cannot listen on 127.0.0.1 port" in ended.output
