"""How the reference vision-language models read and speak: tokenizer, processor, conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from razor.reference import questions

Part = Any
# The library's classes come without types.
LIBRARY: Any = transformers
PAD, START, END, IMAGE = "<pad>", "<s>", "</s>", "<image>"
SPECIAL = (PAD, START, END, IMAGE)
VOCABULARY, SIDE, PATCH = 640, 64, 8
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: LLaVA 1.5's own way to hold a conversation, in words of a Jinja template.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} ASSISTANT:"
    "{% else %} {{ message['content'][0]['text'] }}</s>{% endif %}"
    "{% endfor %}"
)


def tokenizer() -> Part:
    """A byte-level tokenizer over a small vocabulary made of questions and answers."""
    small = tokenizers.Tokenizer(models.BPE())
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    small.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # As they stand in a conversation: after a space.
    small.train_from_iterator([f" {text}" for text in questions.every_text()], trainer)
    start = small.token_to_id(START)
    small.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, start)]
    )
    return LIBRARY.PreTrainedTokenizerFast(
        tokenizer_object=small,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def llava_processor(words: Part) -> Part:
    """Pictures of 64 pixels as 64 tokens."""
    images = LIBRARY.CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return LIBRARY.LlavaProcessor(
        image_processor=images,
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def llava_next_processor(words: Part) -> Part:
    """The same picture twice: whole, and in tiles of 64 pixels."""
    images = LIBRARY.LlavaNextImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]],
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    return LIBRARY.LlavaNextProcessor(
        image_processor=images,
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def conversation(turns: Sequence[tuple[str, str]], image_tokens: int) -> tuple[str, list[str]]:
    """The opening of a conversation on one picture, and the pieces that follow in turn.

    Pieces alternate: what is said by the user, what is answered; only answers are learnt.
    """
    pieces = []
    for number, (question, answer) in enumerate(turns):
        shown = IMAGE * image_tokens + "\n" if number == 0 else ""
        pieces += [f"USER: {shown}{question} ASSISTANT:", f" {answer}{END}"]
    return pieces[0], pieces[1:]


def encoded(
    words: Part, turns: Sequence[tuple[str, str]], image_tokens: int
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and labels that are -100 wherever nothing is to be learnt."""
    opening, rest = conversation(turns, image_tokens)
    ids: list[int] = list(words(opening).input_ids)
    labels = [-100] * len(ids)
    for number, piece in enumerate(rest):
        found = words(piece, add_special_tokens=False).input_ids
        ids += found
        labels += found if number % 2 == 0 else [-100] * len(found)
    return ids, labels


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Rows of unequal length as one tensor (n, longest), filled up on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
