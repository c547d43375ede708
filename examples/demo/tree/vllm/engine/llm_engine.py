"""The engine core: schedule, execute, process the output, again."""

from vllm import __version__
from vllm.core.scheduler import Scheduler
from vllm.logger import SIMULATED, init_logger
from vllm.worker.model_runner import ModelRunner

DETOKENIZE_US_PER_TOKEN = 0.8
"""Simulated cost of turning one token into text, in microseconds."""

logger = init_logger("engine.core", "EngineCore")


class LLMEngine:
    """The simulated engine. `step` returns at once with the seconds that the step would have taken."""

    def __init__(self, config):
        logger.warning(SIMULATED)
        logger.info("Initializing a V1 LLM engine (v%s) with config: %s", __version__, config.describe())
        self.config = config
        logger.info("Starting to load model %s...", config.model)
        self.model_runner = ModelRunner(config)
        self.scheduler = Scheduler(config)
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.requests_finished = 0
        tokens = config.num_blocks * config.block_size
        logger.info(
            "GPU KV cache size: %s tokens, Maximum concurrency for %d tokens per request: %.2fx",
            format(tokens, ","),
            config.max_model_len,
            tokens / config.max_model_len,
        )
        logger.info("init engine (profile, create kv cache, warmup model) took 0.00 s")

    def add_request(self, seq):
        """Queue a sequence."""
        self.scheduler.add(seq)

    def has_unfinished_requests(self):
        """Whether another step has work."""
        return self.scheduler.has_unfinished()

    def step(self):
        """Work one step. Returns the sequences that got a token, and the simulated seconds."""
        batch = self.scheduler.schedule()
        micros = batch.schedule_us + self.model_runner.execute_model(batch)
        advanced = batch.decodes + [seq for seq in batch.prefills if seq.computed >= seq.prompt_len]
        micros += self._process_outputs(advanced)
        return advanced, micros * 1e-6

    def _process_outputs(self, advanced):
        """Append a token to each sequence and its text. Returns microseconds."""
        finished = []
        tokens = 0
        grow = self.scheduler.blocks.grow
        for seq in advanced:
            if seq.output == 0:
                self.prompt_tokens += seq.prompt_len
            seq.output += 1
            tokens += 1
            grow(seq)
            if seq.finished:
                finished.append(seq)
        self.generation_tokens += len(advanced)
        self.requests_finished += len(finished)
        self.scheduler.finish(finished)
        return DETOKENIZE_US_PER_TOKEN * tokens
