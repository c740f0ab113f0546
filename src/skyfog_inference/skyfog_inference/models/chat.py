"""Chat templates: Jinja2 that a model brings along, rendered in a sandbox as transformers renders it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from skyfog_core.errors import ConfigError, InvalidRequest, plain_reason
from skyfog_inference.models.hf import read_json

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


class ChatTemplate:
    """One model's way to write a conversation as text."""

    def __init__(self, template: str, tokens: Mapping[str, str], source: str) -> None:
        """tokens: what the template may name, such as bos_token. Raises ConfigError for what is no template."""
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._tokens = dict(tokens)
        try:
            self._template = environment.from_string(template)
        except jinja2.TemplateError as error:
            raise ConfigError(f"{source}: chat_template: {plain_reason(error)}") from None

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Up to where the answer begins. Raises InvalidRequest where the template refuses the conversation."""
        try:
            return self._template.render(messages=list(messages), add_generation_prompt=True, **self._tokens)
        # A template is a program: what it does to a message of an unforeseen form raises anything.
        except Exception as error:  # noqa: BLE001
            raise InvalidRequest(f"messages: the model's chat template refuses them: {plain_reason(error)}") from None

    @staticmethod
    def render_of(template: ChatTemplate | None, messages: Sequence[Mapping[str, Any]]) -> str:
        """The same, for a model that may have none."""
        if template is None:
            raise InvalidRequest("messages: this model has no chat template; ask for the completion of a prompt")
        return template.render(messages)


def template_of(folder: Path) -> ChatTemplate | None:
    """Of a model's folder: a file of its own, or a key of tokenizer_config.json. Raises ConfigError."""
    path = folder / CONFIG
    values = read_json(path) if path.exists() else {}
    tokens = {
        key: text for key in ("bos_token", "eos_token", "unk_token", "pad_token") if (text := _text(values.get(key)))
    }
    template = values.get("chat_template")
    source = path
    if (folder / TEMPLATE).exists():
        source = folder / TEMPLATE
        template = source.read_text(encoding="utf-8")
    if isinstance(template, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    if template is None:
        return None
    if not isinstance(template, str):
        raise ConfigError(f"{source}: chat_template: should be text, not {type(template).__name__}")
    return ChatTemplate(template, tokens, str(source))


def _text(token: object) -> str | None:
    """A token is written as text, or as an object that holds it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _to_json(value: object, indent: int | None = None) -> str:
    """Jinja's own filter escapes for HTML, which models were not trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return dt.datetime.now(tz=dt.UTC).strftime(form)
