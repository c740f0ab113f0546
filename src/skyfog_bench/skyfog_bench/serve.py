"""A client process's end of `processes.Process.ask`: commands in, answers out, one line of JSON each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any


def serve(commands: dict[str, Callable[..., Any]], lines: Iterable[str] | None = None) -> None:
    """Run commands until `lines`, or else standard input, end. Their named arguments are the command's other fields."""
    for line in sys.stdin if lines is None else lines:
        command = json.loads(line)
        name = command.pop("do")
        try:
            answer = commands[name](**command)
        except TimeoutError as error:
            answer = {"error": f"{name}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
