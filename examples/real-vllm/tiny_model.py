"""`model.py FOLDER`: a random Llama of 2 layers with a tokenizer, 3 MB, made from nothing but this machine's files.

Run by the interpreter of the vLLM installation: it needs tokenizers, transformers and torch. The layout is that of
`save_pretrained` in transformers: config.json, model.safetensors, tokenizer.json, tokenizer_config.json.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 12000
"""`vllm bench latency` draws token ids below 10000, so it must be larger."""
LONGEST = 2048
BEGIN, END, PAD = "<s>", "</s>", "<pad>"
TEXTS = 120
"""So many files of the standard library teach the tokenizer its merges."""


def tokenizer() -> Tokenizer:
    """A byte-level BPE: it encodes any text, which the random data sets of the clients need."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = sorted(str(path) for path in Path(sysconfig.get_path("stdlib")).glob("*.py"))[:TEXTS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train(texts, trainer)
    begin = (BEGIN, made.token_to_id(BEGIN))
    made.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[begin])
    return made


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    words.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": LONGEST,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        bos_token_id=words.token_to_id(BEGIN),
        eos_token_id=words.token_to_id(END),
        pad_token_id=words.token_to_id(PAD),
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
