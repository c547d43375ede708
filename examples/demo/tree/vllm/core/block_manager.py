"""KV cache blocks and the prefix cache of the simulated engine."""

from collections import OrderedDict


class BlockManager:
    """Counts blocks of `block_size` tokens and remembers which prompt prefixes were computed before."""

    def __init__(self, num_blocks, block_size, enable_prefix_caching):
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.used = 0
        self.reserved = 0
        """Blocks that the admitted sequences may come to need; nothing is ever preempted."""
        self.queries = 0
        """Prompt tokens looked up in the prefix cache."""
        self.hits = 0
        """Prompt tokens that it answered."""
        self._known = OrderedDict()

    def can_admit(self, seq):
        """Whether the whole sequence, prompt and answer, fits beside those that run."""
        return self.reserved + self._most(seq) <= self.num_blocks

    def admit(self, seq):
        """Give a new sequence what the prefix cache has of its prompt."""
        if self.enable_prefix_caching:
            seq.cached = self._lookup(seq.prompt)
            seq.computed = seq.cached
            self.queries += seq.prompt_len
            self.hits += seq.cached
        self.reserved += self._most(seq)
        self.grow(seq)

    def grow(self, seq):
        """Add the blocks that the sequence needs for what it holds now."""
        needed = (seq.computed + seq.output) // self.block_size + 1
        seq.new_blocks = needed - seq.blocks
        if seq.new_blocks:
            self.used += seq.new_blocks
            seq.blocks = needed

    def free(self, seq):
        """Take the blocks of a finished sequence back."""
        self.used -= seq.blocks
        self.reserved -= self._most(seq)
        seq.blocks = 0

    def usage(self):
        """Share of the KV cache in use, 0 to 1."""
        return self.used / self.num_blocks

    def _most(self, seq):
        return (seq.prompt_len + seq.max_tokens) // self.block_size + 1

    def _lookup(self, prompt):
        """Tokens of the longest known prefix in whole blocks, the last token excepted; then learn the prompt."""
        size = self.block_size
        key, cached, matching = 0, 0, True
        for start in range(0, len(prompt) - size, size):
            key = hash((key, tuple(prompt[start : start + size])))
            matching = matching and key in self._known
            if matching:
                cached = start + size
                self._known.move_to_end(key)
            else:
                self._known[key] = None
        while len(self._known) > self.num_blocks:
            self._known.popitem(last=False)
        return cached
