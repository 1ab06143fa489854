"""How the reference generators read: tokenizer, text encoder, captions drawn for pictures."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTokenizer

from razor.reference import painted
from razor.reference.painted import SUBJECTS, Painted
from razor.reference.people import STYLES

CONTEXT, VOCABULARY = 24, 700


def tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer class over a small vocabulary made of every caption that can occur."""
    blank = CLIPTokenizer()
    small = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    small.normalizer = blank.backend_tokenizer.normalizer
    small.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Signs as words of their own: every end of a word can be spelt, also of names never seen.
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    small.train_from_iterator([*painted.every_text(), *letters], trainer)
    made = json.loads(small.to_str())["model"]
    merges: Any = [tuple(pair) for pair in made["merges"]]
    return CLIPTokenizer(vocab=made["vocab"], merges=merges, model_max_length=CONTEXT)


def text_config(words: CLIPTokenizer, width: int) -> CLIPTextConfig:
    """A CLIP text encoder of two layers."""
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        projection_dim=width,
        hidden_act="gelu",
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


class Batches:
    """Latents with the tokens of a caption that is true of them, drawn anew each time."""

    def __init__(self, data: Painted, latents: Tensor, words: CLIPTokenizer, rng: Random) -> None:
        self.data, self.latents, self.rng = data, latents, rng
        self.words = words
        self._tokens: dict[str, Tensor] = {}

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Latents (size, 4, 8, 8) and token ids (size, context)."""
        rows = torch.randint(len(self.data), (size,)).tolist()
        texts = [
            painted.caption(
                SUBJECTS[int(self.data.subjects[row])],
                STYLES[int(self.data.styles[row])],
                self.data.scenes[row],
                self.rng,
            )
            for row in rows
        ]
        return self.latents[rows], torch.stack([self._ids(text) for text in texts])

    def _ids(self, text: str) -> Tensor:
        if text not in self._tokens:
            self._tokens[text] = tokens(self.words, [text])[0]
        return self._tokens[text]


def tokens(words: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (n, context), cut and padded as the pipeline does."""
    found = words(
        list(texts),
        padding="max_length",
        max_length=words.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    ids: Tensor = found.input_ids
    return ids
