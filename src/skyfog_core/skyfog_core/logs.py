"""How a process logs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog


class _Logger(structlog.PrintLogger):
    """Prints lines; one that cannot be written is lost, and is no error of the work that it tells of.

    A reader may go before us: a killed `ros2 launch` held the other end of its nodes' output.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._into = file

    def msg(self, message: str) -> None:
        try:
            super().msg(message)
        except BrokenPipeError:
            _discard(self._into)
        except OSError:  # a full disk, a terminal that is gone
            pass

    debug = info = warning = error = critical = msg


def _discard(file: TextIO) -> None:
    """Whatever is written there from now on goes nowhere, and Python's own flush at the end does not fail either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


def configure_logs(name: str) -> None:
    """Log events with fields to stderr, in one line each; colours only on a terminal. Logging never raises OSError."""
    into = sys.stderr
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=into.isatty(),
                pad_event_to=0,
                sort_keys=False,
                # not rich's, which prints every local variable: for an image that takes a minute
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_names: _Logger(into),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.get_logger().debug("logs_ready", node=name)
