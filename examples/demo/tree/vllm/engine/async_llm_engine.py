"""The engine behind the HTTP server: steps in simulated time, text handed on to each request."""

import asyncio
import time

from vllm.engine.llm_engine import LLMEngine
from vllm.engine.metrics import Metrics
from vllm.logger import init_logger

IPC_US = 1500.0
"""Simulated cost of one message from the engine core to the API server, in microseconds."""
FRONTEND_US_PER_OUTPUT = 24.0
"""Simulated cost of one output in the API server, in microseconds."""
LOG_INTERVAL_S = 1.0

logger = init_logger("engine.metrics", "APIServer")
core_logger = init_logger("engine.core", "EngineCore")


class EngineDeadError(RuntimeError):
    """The engine core ended; nothing can be generated any more."""


class AsyncLLMEngine:
    """Drives an LLMEngine on the running loop. A step ends when its simulated time is over."""

    def __init__(self, config):
        try:
            self.engine = LLMEngine(config)
        except Exception:
            core_logger.error("EngineCore failed to start.", exc_info=True)
            raise RuntimeError("Engine core initialization failed. See root cause above.") from None
        self.config = config
        self.metrics = Metrics(self.engine)
        self.dead = None
        """The exception that ended the engine core, if one did."""
        self._wake = asyncio.Event()
        self._open = set()

    def add_request(self, seq):
        """Queue a sequence; `seq.sink(tokens, finished)` is called as tokens come. Raises EngineDeadError."""
        if self.dead is not None:
            raise EngineDeadError("EngineCore encountered an issue. See stack trace (above) for the root cause.")
        self._open.add(seq)
        self.engine.add_request(seq)
        self._wake.set()

    async def run(self):
        """Step for as long as the loop lives. An error in the core ends every open request, and is kept."""
        try:
            await self._run()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.dead = error
            core_logger.error("EngineCore encountered a fatal error.", exc_info=True)
            for seq in list(self._open):
                seq.sink(0, True)
            self._open.clear()
            logger.error("AsyncLLM output_handler failed: EngineDeadError: EngineCore encountered an issue.")

    async def _run(self):
        clock = time.monotonic()
        while True:
            if not self.engine.has_unfinished_requests():
                self._wake.clear()
                await self._wake.wait()
                clock = max(clock, time.monotonic())
            outputs, seconds = self.advance()
            clock += seconds
            await asyncio.sleep(max(0.0, clock - time.monotonic()))
            self.send(outputs, clock)

    def advance(self):
        """Work one step. Returns the sequences with text for their clients, and the simulated seconds until then."""
        advanced, seconds = self.engine.step()
        outputs = self._collect(advanced)
        return outputs, seconds + self._hand_over(advanced, outputs) * 1e-6

    def _collect(self, advanced):
        """The sequences whose clients get text after this step: the first token, every interval, the last one."""
        interval = self.config.stream_interval
        return [seq for seq in advanced if seq.output == 1 or seq.finished or seq.output - seq.emitted >= interval]

    def _hand_over(self, advanced, outputs):
        """Move a step's outputs from the core to the API server. Returns microseconds."""
        messages = advanced  # the API server finds out which of them have text to send
        return IPC_US + FRONTEND_US_PER_OUTPUT * len(messages)

    def send(self, outputs, now):
        """Give each client its new text. `now` is the engine's clock in seconds."""
        for seq in outputs:
            tokens = seq.output - seq.emitted
            if not seq.emitted:
                self.metrics.first_token(now - seq.arrival)
            seq.emitted = seq.output
            if seq.finished:
                self._open.discard(seq)
                self.metrics.finished(now - seq.arrival)
            seq.sink(tokens, seq.finished)

    async def log_stats(self):
        """Once a second, while there is something to say, the line that vLLM's server prints."""
        previous = (0, 0)
        while True:
            await asyncio.sleep(LOG_INTERVAL_S)
            now = (self.engine.prompt_tokens, self.engine.generation_tokens)
            if now == previous and not self.engine.has_unfinished_requests():
                continue
            blocks = self.engine.scheduler.blocks
            logger.info(
                "Engine 000: Avg prompt throughput: %.1f tokens/s, Avg generation throughput: %.1f tokens/s, "
                "Running: %d reqs, Waiting: %d reqs, GPU KV cache usage: %.1f%%, Prefix cache hit rate: %.1f%%",
                (now[0] - previous[0]) / LOG_INTERVAL_S,
                (now[1] - previous[1]) / LOG_INTERVAL_S,
                len(self.engine.scheduler.running),
                len(self.engine.scheduler.waiting),
                100 * blocks.usage(),
                100.0 * blocks.hits / blocks.queries if blocks.queries else 0.0,
            )
            previous = now
