"""Which sequences the next step works on: continuous batching with chunked prefill."""

from collections import deque

from vllm.core.block_manager import BlockManager

VISIT_US = 0.4
"""Simulated cost of looking at one sequence while scheduling, in microseconds."""


class SchedulerOutput:
    """The work of one step."""

    __slots__ = ("decodes", "prefill_tokens", "prefills", "schedule_us")

    def __init__(self):
        self.decodes = []
        self.prefills = []
        self.prefill_tokens = 0
        self.schedule_us = 0.0


class Scheduler:
    """Holds the waiting and the running sequences, first come, first served."""

    def __init__(self, config):
        self.config = config
        self.blocks = BlockManager(config.num_blocks, config.block_size, config.enable_prefix_caching)
        self.waiting = deque()
        self.running = []

    def add(self, seq):
        """Queue a new sequence."""
        self.waiting.append(seq)

    def has_unfinished(self):
        """Whether any sequence waits or runs."""
        return bool(self.waiting or self.running)

    def schedule(self):
        """Choose the work of the next step."""
        out = SchedulerOutput()
        budget = self.config.max_num_batched_tokens
        for seq in self.running:
            if seq.computed >= seq.prompt_len:
                out.decodes.append(seq)
        budget -= len(out.decodes)
        for seq in self.running:
            if seq.computed < seq.prompt_len and budget > 0:
                budget -= self._prefill(seq, budget, out)
        visited = len(self.running) + len(self.waiting)
        while self.waiting and budget > 0 and len(self.running) < self.config.max_num_seqs:
            if not self.blocks.can_admit(self.waiting[0]):
                break
            seq = self.waiting.popleft()
            self.blocks.admit(seq)
            self.running.append(seq)
            budget -= self._prefill(seq, budget, out)
        out.schedule_us = VISIT_US * visited
        return out

    def finish(self, finished):
        """Drop finished sequences."""
        for seq in finished:
            self.blocks.free(seq)
        if finished:
            self.running = [seq for seq in self.running if not seq.finished]

    def _prefill(self, seq, budget, out):
        chunk = min(seq.prompt_len - seq.computed, budget)
        seq.computed += chunk
        self.blocks.grow(seq)
        out.prefill_tokens += chunk
        out.prefills.append(seq)
        return chunk
