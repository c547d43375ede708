"""One request on its way through the simulated engine."""


class Sequence:
    """A prompt and how much of it, and of its answer, was computed. Lengths are tokens."""

    __slots__ = (
        "arrival",
        "blocks",
        "cached",
        "computed",
        "emitted",
        "max_tokens",
        "new_blocks",
        "output",
        "prompt",
        "prompt_len",
        "request_id",
        "sink",
    )

    def __init__(self, request_id, prompt, max_tokens, arrival=0.0, sink=None):
        self.request_id = request_id
        self.prompt = prompt
        self.prompt_len = len(prompt)
        self.max_tokens = max_tokens
        self.arrival = arrival
        self.sink = sink
        """Who is told about new tokens; None for the offline modes."""
        self.computed = 0
        """Prompt tokens whose KV entries exist."""
        self.cached = 0
        """Prompt tokens that the prefix cache answered."""
        self.output = 0
        """Tokens generated so far."""
        self.emitted = 0
        """Tokens handed to the client so far."""
        self.blocks = 0
        """KV blocks that this sequence holds."""
        self.new_blocks = 0
        """KV blocks that this step added."""

    @property
    def finished(self):
        """All asked tokens exist: the simulated model never ends a sequence by itself."""
        return self.output >= self.max_tokens
