"""What the simulation knows about models: only the longest context, which some published commands run into."""

MAX_LEN = {
    "facebook/opt-125m": 2048,
    "meta-llama/Meta-Llama-3-8B": 8192,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8192,
    "meta-llama/Meta-Llama-3-70B-Instruct": 8192,
    "neuralmagic/Meta-Llama-3-8B-Instruct-FP8": 8192,
    "RedHatAI/Meta-Llama-3-8B-Instruct-FP8": 8192,
    "01-ai/Yi-1.5-9B-Chat": 4096,
}
DEFAULT_MAX_LEN = 131072


def max_model_len(model, asked):
    """The context length to use, in tokens. Raises ValueError where more is asked than the model has."""
    derived = MAX_LEN.get(model, DEFAULT_MAX_LEN)
    if asked is None:
        return derived
    if asked > derived:
        raise ValueError(
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json)."
        )
    return asked
