"""Where the model would run. Here a step only takes time, worked out from the batch."""

STEP_US = 60.0
"""Simulated cost of a step whatever its batch (reading the weights), in microseconds."""
DECODE_US_PER_SEQ = 1.0
PREFILL_US_PER_TOKEN = 0.2
COPY_US_PER_BLOCK = 0.03
"""Simulated cost of writing one entry of the block table, in microseconds."""


class ModelRunner:
    """Turns scheduled work into simulated time."""

    def __init__(self, config):
        self.config = config

    def prepare_inputs(self, batch):
        """Build the block table that attention reads. Returns microseconds."""
        entries = 0
        for seq in batch.decodes:
            entries += seq.blocks
        return COPY_US_PER_BLOCK * entries

    def execute_model(self, batch):
        """Run one step, in which every decode and every completed prompt gets a token. Returns microseconds."""
        cost = STEP_US + self.prepare_inputs(batch)
        cost += DECODE_US_PER_SEQ * len(batch.decodes)
        cost += PREFILL_US_PER_TOKEN * batch.prefill_tokens
        return cost
