"""What is asked of a language model, and one sequence of tokens on its way through the engine. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from skyfog_core.errors import InvalidRequest

MAX_LOGPROBS = 20
MAX_STOPS = 16
MAX_STOP_LENGTH = 1_000  # characters


class FinishReason(Enum):
    """Why a sequence ended; the values are OpenAI's where it has one."""

    STOP = "stop"  # a stop string, a stop token or the end of the text
    LENGTH = "length"  # max_tokens, or the end of the context
    ABORTED = "abort"  # withdrawn by who asked
    FAILED = "error"  # a fault of ours; the message says which


class Place(Enum):
    """Which tier holds the keys and values of a sequence."""

    NOWHERE = "nowhere"
    DEVICE = "device"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are drawn. One seed and one sequence of tokens give the same next token on any replica.

    Raises InvalidRequest that names the field and what it may be.
    """

    max_tokens: int = 256
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    seed: int | None = None  # None: the engine draws one
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None  # this many most likely tokens beside the drawn one's; 0: only its own
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    skip: int = (
        0  # the prompt's last ones, which other calls have drawn: the first one here is number `skip` of the seed
    )
    partial: bool = False  # a later call goes on: text that may become a stop string, or is half a character, waits

    def __post_init__(self) -> None:
        bounds = {
            "max_tokens": (1, 1_000_000),
            "temperature": (0, 100),
            "top_p": (0, 1),
            "top_k": (0, 1_000_000),
            "presence_penalty": (-2, 2),
            "frequency_penalty": (-2, 2),
            "skip": (0, 1_000_000),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                raise InvalidRequest(f"{name}: should be between {low} and {high}, not {value}")
        if self.top_p <= 0:
            raise InvalidRequest("top_p: should be above 0 and at most 1, not 0")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise InvalidRequest(f"logprobs: should be between 0 and {MAX_LOGPROBS}, not {self.logprobs}")
        if len(self.stop) > MAX_STOPS or not all(0 < len(stop) <= MAX_STOP_LENGTH for stop in self.stop):
            raise InvalidRequest(f"stop: should be at most {MAX_STOPS} texts of 1 to {MAX_STOP_LENGTH} characters")


@dataclass(slots=True, eq=False)
class Sequence:
    """A sequence of tokens: the prompt, then what was drawn. The scheduler owns it; the runner reads it.

    `computed` tokens have their keys and values in `blocks` of the tier `place`: block i holds the positions
    i * BLOCK_SIZE to (i + 1) * BLOCK_SIZE - 1. While it decodes, computed == len(tokens) - 1: the last token is known
    and is what the next step computes.
    """

    id: str
    tokens: list[int]
    prompt_len: int
    max_tokens: int
    arrived_ns: int
    priority: int = 0  # higher goes first
    computed: int = 0
    place: Place = Place.NOWHERE
    blocks: list[int] = field(default_factory=list)
    preemptions: int = 0
    shared: int = 0  # prompt tokens whose keys and values another sequence had computed

    @property
    def output_len(self) -> int:
        """Tokens drawn so far."""
        return len(self.tokens) - self.prompt_len

    @property
    def remaining(self) -> int:
        """Tokens that are to be computed before the next one can be drawn; 1 while it decodes."""
        return len(self.tokens) - self.computed

    @property
    def prefilling(self) -> bool:
        """Whether more than the last token is to be computed."""
        return self.remaining > 1
