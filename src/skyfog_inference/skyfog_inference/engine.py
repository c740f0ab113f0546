"""The engine: requests in, streams of tokens out; one thread owns scheduler and runner."""

# Theory. Callers put requests and withdrawals in a bounded inbox and wake the loop; between two steps the loop takes
# them in. Everything else happens in `turn`, which only the loop's thread calls:
#
#   inbox -> scheduler.add / abort -> scheduler.schedule -> runner.execute -> sampler.draw -> scheduler.on_step
#         -> events
#
# A request's stream gets a last event whatever happens, and gets it after the books are closed: where a reader sees
# the end, its blocks are free, and the metrics tell of both. What fails for one request alone (no distribution in its
# logits, text that cannot be decoded) ends that one; a step that fails ends those in it; the engine goes on.

from __future__ import annotations

import itertools
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Tokens
from dataclasses import replace

import structlog

from skyfog_core.clock import Clock, SteadyClock
from skyfog_core.errors import InvalidRequest, Overloaded, RequestError, ServiceFailed, plain_reason
from skyfog_inference import sampler
from skyfog_inference.generation import Detokenizer, Generation, NoText
from skyfog_inference.metrics import EngineMetrics, Histogram
from skyfog_inference.request import FinishReason, SamplingParams, Sequence
from skyfog_inference.runner.base import Runner, StepOutput
from skyfog_inference.sampler import Drawn
from skyfog_inference.scheduler.base import Scheduler, Step
from skyfog_inference.stream import Event, Pipe, Stream

log = structlog.get_logger()

CLOSE_LIMIT_S = 30.0  # a step may be long
STALL_S = 0.01  # until a scheduler that finds no step is asked again
STALL_LIMIT = 1_000  # times


class Engine:
    """One model that is served. Thread-safe but for `turn`."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        *,
        vocab_size: int,
        context: int,
        eos: Collection[int] = (),
        detokenizer: Callable[[], Detokenizer] = NoText,
        max_waiting: int = 1_024,
        clock: Clock | None = None,
    ) -> None:
        """`context`: tokens of the longest sequence, its prompt included; less where the scheduler holds less."""
        self.context = min(context, scheduler.longest)
        self._scheduler = scheduler
        self._runner = runner
        self._vocab_size = vocab_size
        self._eos = frozenset(eos)
        self._detokenizer = detokenizer
        self._max_waiting = max_waiting
        self._clock = clock or SteadyClock()
        self._ids = itertools.count()
        self._thread: threading.Thread | None = None
        # Shared by all threads, under the condition; withdrawals may come from a finalizer, at any time, in any thread.
        self._changed = threading.Condition()
        self._inbox: deque[Generation] = deque()
        self._withdrawn: deque[Pipe] = deque()
        self._pipes: dict[str, Pipe] = {}
        self._waiting = 0
        self._refused = 0
        self._closing = ""  # why nothing new is taken
        self._stopping = False
        # The loop's own.
        self._live: dict[str, Generation] = {}
        self._ended = dict.fromkeys(FinishReason, 0)
        self._steps = self._prompt_tokens = self._drawn_tokens = 0
        self._queue, self._first, self._between, self._total = Histogram(), Histogram(), Histogram(), Histogram()
        self._state = scheduler.state()

    def start(self) -> None:
        """Run the loop in a thread of its own, until `close`."""
        assert self._thread is None, "it runs already"
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(
        self, prompt: Tokens[int], params: SamplingParams, *, priority: int = 0, request_id: str | None = None
    ) -> Stream:
        """Ask for the tokens after `prompt`. Of several that wait, those of higher priority go first.

        Raises InvalidRequest that names the field, Overloaded where `max_waiting` wait already or the engine closes.
        """
        tokens = list(prompt)
        self._refuse(tokens, params)
        room = self.context - len(tokens)
        if params.partial and params.max_tokens >= room:  # the context ends with it: no later call can go on
            params = replace(params, partial=False)
        name = request_id if request_id is not None else f"r{next(self._ids)}"
        sequence = Sequence(
            id=name,
            tokens=tokens,
            prompt_len=len(tokens),
            max_tokens=min(params.max_tokens, room),
            arrived_ns=self._clock.now_ns(),
            priority=priority,
        )
        seed = secrets.randbits(63) if params.seed is None else params.seed
        pipe = Pipe(name)
        generation = Generation(sequence, params, seed, self._eos, self._detokenizer(), pipe)
        with self._changed:
            if self._closing:
                self._refused += 1
                raise Overloaded(self._closing)
            if self._waiting >= self._max_waiting:
                self._refused += 1
                raise Overloaded(f"{self._max_waiting} requests wait already")
            if name in self._pipes:
                raise InvalidRequest(f"id: {name!r} is under way already")
            self._pipes[name] = pipe
            self._waiting += 1
            self._inbox.append(generation)
            self._changed.notify_all()
        return Stream(pipe, self._withdraw)

    def abort(self, request_id: str) -> bool:
        """Withdraw a request: its stream ends soon, with ABORTED. False where it is not under way."""
        with self._changed:
            pipe = self._pipes.get(request_id)
            if pipe is not None:
                self._withdraw(pipe)
        return pipe is not None

    def drain(self, limit_s: float) -> bool:
        """Take nothing new, and wait for what is under way; False where it has not all ended in time."""
        with self._changed:
            self._closing = self._closing or "shutting down"
            return self._changed.wait_for(lambda: not self._pipes, limit_s)

    def close(self) -> None:
        """End what is under way (ABORTED), and the runner. A second time nothing happens."""
        with self._changed:
            if self._stopping:
                return
            self._closing = self._closing or "shutting down"
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSE_LIMIT_S)
            if self._thread.is_alive():
                log.error("engine_stuck_in_step", waited_s=CLOSE_LIMIT_S)
        else:
            self._end_all(None)
            self._runner.close()

    def unwell(self) -> str:
        """Why it takes no requests; empty where it does."""
        return self._closing

    def metrics(self) -> EngineMetrics:
        with self._changed:
            live, refused = len(self._pipes), self._refused
        return EngineMetrics(
            scheduler=self._state,
            live=live,
            ended=dict(self._ended),
            refused=refused,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            drawn_tokens=self._drawn_tokens,
            queue_s=self._queue.copy(),
            first_token_s=self._first.copy(),
            between_tokens_s=self._between.copy(),
            total_s=self._total.copy(),
        )

    def check(self) -> None:
        """Raise AssertionError where the books do not balance. Between two steps only: tests turn by hand."""
        self._scheduler.check()
        with self._changed:
            under_way = {*self._live, *(generation.sequence.id for generation in self._inbox)}
            assert under_way == self._pipes.keys(), "a request is lost"
            begun = sum(1 for generation in self._live.values() if generation.begun_ns is not None)
            assert self._waiting == len(under_way) - begun, "who waits is counted wrongly"
        assert self._scheduler.has_work() == bool(self._live)

    def turn(self) -> bool:
        """Take in what has come, and run one step; False where there was none to run."""
        self._take_in()
        self._state = self._scheduler.state()  # with what has come: a step may be long
        step = self._scheduler.schedule(self._clock.now_ns())
        if step is None:
            return False
        self._steps += 1
        self._begin(step)
        try:
            output = self._runner.execute(step)
            draws = sampler.draw(output.logits, [self._live[name].draw() for name in output.sequences])
        except Exception as error:  # noqa: BLE001  whatever it is, it is the step's, and the engine goes on
            self._fail(step, error)
        else:
            self._finish(step, output, draws)
        return True

    def _refuse(self, tokens: Tokens[int], params: SamplingParams) -> None:
        """Raise InvalidRequest for what cannot be done."""
        if not tokens:
            raise InvalidRequest("prompt: has no tokens")
        if len(tokens) >= self.context:
            raise InvalidRequest(
                f"prompt: {len(tokens)} tokens, and with one more the context of {self.context} is exceeded"
            )
        if params.skip >= len(tokens):
            raise InvalidRequest(f"skip: {params.skip} of {len(tokens)} tokens leave no prompt")
        wrong = next((token for token in tokens if not 0 <= token < self._vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(f"prompt: token {wrong} is not one of the model's 0 to {self._vocab_size - 1}")

    def _withdraw(self, pipe: Pipe) -> None:
        """Have the loop end a request; for one that has ended nothing happens."""
        if pipe.ended:
            return
        with self._changed:  # reentrant, since a finalizer may run within it
            self._withdrawn.append(pipe)
            self._changed.notify_all()

    def _run(self) -> None:
        failed: RequestError | None = None
        try:
            self._loop()
        except Exception as error:
            log.exception("engine_failed")
            with self._changed:
                self._closing = f"the engine has failed: {plain_reason(error) or type(error).__name__}"
            failed = ServiceFailed(self._closing)
        self._end_all(failed)
        self._runner.close()

    def _loop(self) -> None:
        """Until `close`."""
        stalls = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._inbox or self._withdrawn or self._live)
                if self._stopping:
                    return
            if self.turn():
                stalls = 0
            elif self._live:
                stalls += 1
                assert stalls < STALL_LIMIT, "the scheduler has work and finds no step"
                with self._changed:
                    self._changed.wait(STALL_S)

    def _take_in(self) -> None:
        """Requests and withdrawals, in the order in which they came."""
        now_ns = self._clock.now_ns()
        with self._changed:
            arrived, self._inbox = self._inbox, deque()
            withdrawn, self._withdrawn = self._withdrawn, deque()
            # A request is under way from its submission on: nobody sees it in neither place.
            self._live.update((generation.sequence.id, generation) for generation in arrived)
        for generation in arrived:
            try:
                self._scheduler.add(generation.sequence, now_ns)
            except RequestError as error:
                self._forget(generation, FinishReason.FAILED)
                generation.fail(error, now_ns)
        for pipe in withdrawn:
            found = self._live.get(pipe.id)
            if found is not None and found.pipe is pipe:
                self._scheduler.abort(pipe.id, now_ns)
                self._state = self._scheduler.state()
                self._forget(found, FinishReason.ABORTED)
                found.withdraw(now_ns)

    def _begin(self, step: Step) -> None:
        """Note those that are in a step for the first time."""
        now_ns = self._clock.now_ns()
        for chunk in step.chunks:
            generation = self._live[chunk.sequence.id]
            if generation.begun_ns is None:
                generation.on_begin(now_ns)
                self._queue.observe((now_ns - chunk.sequence.arrived_ns) / 1e9)
                self._prompt_tokens += chunk.sequence.prompt_len
                with self._changed:
                    self._waiting -= 1

    def _finish(self, step: Step, output: StepOutput, draws: Iterable[Drawn | None]) -> None:
        """Give the scheduler the step's tokens, then the readers."""
        now_ns = self._clock.now_ns()
        tokens: dict[str, int] = {}
        events: list[tuple[Generation, Event]] = []
        for name, drawn in zip(output.sequences, draws, strict=True):
            generation = self._live[name]
            event = self._event(generation, drawn, now_ns)
            events.append((generation, event))
            if drawn is not None:
                tokens[name] = drawn.token
        ended = {generation.sequence.id for generation, event in events if event.finish is not None}
        self._scheduler.on_step(step, tokens, ended, output.took_ns, now_ns)
        self._state = self._scheduler.state()
        self._drawn_tokens += len(tokens)
        for generation, event in events:
            if event.finish is None:
                generation.pipe.put(event)
            else:
                self._total.observe((now_ns - generation.sequence.arrived_ns) / 1e9)
                self._forget(generation, event.finish)
                generation.end(event, now_ns)

    def _event(self, generation: Generation, drawn: Drawn | None, now_ns: int) -> Event:
        """What a row of logits becomes."""
        if drawn is None:
            error = ServiceFailed("the model's logits are not finite")
            return Event(None, finish=FinishReason.FAILED, error=error)
        last_ns = generation.last_token_ns
        if last_ns is None:
            self._first.observe((now_ns - generation.sequence.arrived_ns) / 1e9)
        else:
            self._between.observe((now_ns - last_ns) / 1e9)
        try:
            return generation.on_token(drawn, now_ns)
        except Exception as error:  # a tokenizer's; the others of the step are well
            log.exception("token_without_text", request=generation.sequence.id, token=drawn.token)
            failed = ServiceFailed(f"token {drawn.token} has no text: {plain_reason(error)}")
            return Event(None, finish=FinishReason.FAILED, error=failed)

    def _fail(self, step: Step, error: Exception) -> None:
        """A step failed: end all that were in it."""
        log.error("step_failed", error=plain_reason(error), kind=type(error).__name__, sequences=len(step.chunks))
        now_ns = self._clock.now_ns()
        computed = [chunk.sequence.id for chunk in step.chunks]
        for name in dict.fromkeys(computed + [swap.sequence.id for swap in step.swaps]):
            self._scheduler.abort(name, now_ns)
            self._state = self._scheduler.state()
            generation = self._live[name]
            self._forget(generation, FinishReason.FAILED)
            generation.fail(ServiceFailed(f"{type(error).__name__}: {plain_reason(error)}"), now_ns)

    def _end_all(self, error: RequestError | None) -> None:
        """End every request that is under way; the loop has ended."""
        now_ns = self._clock.now_ns()
        with self._changed:
            self._live.update((generation.sequence.id, generation) for generation in self._inbox)
            self._inbox.clear()
        for generation in list(self._live.values()):
            if error is None:
                self._scheduler.abort(generation.sequence.id, now_ns)
                self._state = self._scheduler.state()
                self._forget(generation, FinishReason.ABORTED)
                generation.withdraw(now_ns)
            else:
                self._forget(generation, FinishReason.FAILED)
                generation.fail(error, now_ns)

    def _forget(self, generation: Generation, finish: FinishReason) -> None:
        """A request is not under way any more: it is counted, and its last event comes next."""
        name = generation.sequence.id
        self._ended[finish] += 1
        del self._live[name]
        with self._changed:
            del self._pipes[name]
            if generation.begun_ns is None:
                self._waiting -= 1
            self._changed.notify_all()
