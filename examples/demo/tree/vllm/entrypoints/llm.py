"""The offline entry point: the same engine without a server."""

import time

from vllm.engine.llm_engine import LLMEngine
from vllm.sequence import Sequence

_SLACK_S = 0.002
"""Simulated time may run this far ahead before it is slept off: a sleep per step would cost more than the step."""


class LLM:
    """Generates by sleeping as long as the simulated engine says."""

    def __init__(self, config):
        self.engine = LLMEngine(config)

    def generate(self, prompts, lengths, on_done=None):
        """Answer all prompts, each with its length in tokens.

        Returns (prompt tokens, output tokens). `on_done(n)` is told of finished requests.
        """
        engine = self.engine
        before = (engine.prompt_tokens, engine.generation_tokens, engine.requests_finished)
        clock = time.monotonic()
        for number, (prompt, length) in enumerate(zip(prompts, lengths)):  # noqa: B905 - Python 3.8 has no strict=
            engine.add_request(Sequence(f"offline-{number}", prompt, length, clock))
        done = 0
        while engine.has_unfinished_requests():
            clock += engine.step()[1]
            ahead = clock - time.monotonic()
            if ahead > _SLACK_S:
                time.sleep(ahead)
            if on_done is not None and engine.requests_finished - before[2] > done:
                done = engine.requests_finished - before[2]
                on_done(done)
        time.sleep(max(0.0, clock - time.monotonic()))
        return engine.prompt_tokens - before[0], engine.generation_tokens - before[1]
