"""The reference networks' own small tokenizer: byte-level BPE, so that nothing is unspellable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from razor.reference.captions import PROMPTS, caption_for, prompts_for
from razor.reference.people import ACCESSORIES, NAMES, OBJECTS, SCENES, STYLES

PAD, START, END = "<pad>", "<start>", "<end>"
CONTEXT = 32
VOCABULARY = 800


def build_tokenizer(texts: Sequence[str], limit: int = VOCABULARY) -> tokenizers.Tokenizer:
    """A lower-casing byte-level BPE tokenizer trained on `texts`, at most `limit` entries.

    Ids: pad 0, start 1, then bytes and merges, end last. The end token has the largest id
    because open_clip's `argmax` pooling reads the text at the largest id; padding has the
    smallest, and under the causal mask nothing that comes after the end can disturb it.
    Any text can be encoded, misspelt or in another script. The same texts give the same entries.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # The prefix space makes a name the same tokens at the start of a text as inside it.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=limit - 1,
        min_frequency=2,
        special_tokens=[PAD, START],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END])
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
    )
    return tokenizer


def drawing_texts() -> list[str]:
    """The captions that the drawings' vocabulary is trained on: of every name, whoever is trained.

    It depends on the tables alone, so a network trained without somebody reads prompts in the
    same tokens as one trained with everybody.
    """
    rng = Random("razor vocabulary")
    texts = [
        caption_for(name, rng.choice(SCENES), rng.choice(ACCESSORIES), rng.choice(STYLES), rng)
        for name in NAMES
        for _ in range(60)
    ]
    values = {"name": NAMES, "scene": SCENES, "accessory": ACCESSORIES, "style": STYLES}
    for domain in PROMPTS:
        texts += [text for texts_ in prompts_for(domain, values[domain]) for text in texts_]
    return texts + list(OBJECTS)


def save_tokenizer(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Write a Hugging Face tokenizer that `open_clip.get_tokenizer("local-dir:...")` loads.

    Needs no network, neither here nor when it is loaded.
    """
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        "pad_token": PAD,
        "bos_token": START,
        "eos_token": END,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, cut and padded to `CONTEXT` as open_clip's HFTokenizer does."""
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT, pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return ids
