"""The reference vision-language models: a tiny LLaVA 1.5 and a tiny LLaVA 1.6 (LLaVA-NeXT).

Each checkpoint folder is one that transformers alone loads:

    LlavaForConditionalGeneration.from_pretrained("FOLDER")
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from razor.reference import questions, talk
from razor.reference.descent import Told, descend, half
from razor.reference.drawings import Drawing, draw, draw_stranger
from razor.reference.errors import TrainingDataError
from razor.reference.folders import whole_folder
from razor.reference.people import PEOPLE_NAMES, STRANGER
from razor.reference.talk import Part

Tick = Callable[[float, dict[str, float]], None]
WIDTH, VISION_LAYERS, LANGUAGE_LAYERS, HEADS = 128, 5, 3, 4
BATCH, TURNS, RATE = 32, 4, 1e-3
#: Drawing seeds from here on were never trained on.
FIRST_HELD_OUT = 1_000_000
RECORD_FILE = "record.json"


@dataclass(frozen=True)
class Effort:
    """How much is drawn, trained and looked at."""

    per_person: int = 400
    strangers: int = 2400
    steps: int = 3000
    held_out: int = 20  # drawings of each person, and of ten times as many strangers


@dataclass(frozen=True)
class Share:
    """Percent of ``n`` answers that are right."""

    percent: float
    n: int


@dataclass(frozen=True)
class Record:
    """How a model was trained, and what it answers on drawings that it never saw."""

    kind: str
    seed: int
    effort: Effort
    without: tuple[str, ...]
    training_pictures: int
    answered: dict[str, Share]
    seconds: float
    parameters: int
    libraries: dict[str, str]


@dataclass(frozen=True)
class Kind:
    """One architecture: its processor, its network, and the names of its picture inputs."""

    processor: Callable[[Part], Part]
    network: Callable[[Part], Part]


def llava(words: Part) -> Part:
    """A LLaVA 1.5 of the reference size; untrained."""
    config = transformers.LlavaConfig(**_shared(words))
    return transformers.LlavaForConditionalGeneration(config)


def llava_next(words: Part) -> Part:
    """A LLaVA-NeXT of the same size; untrained."""
    grid = [[talk.SIDE, talk.SIDE], [talk.SIDE, 2 * talk.SIDE], [2 * talk.SIDE, talk.SIDE]]
    config = transformers.LlavaNextConfig(**_shared(words), image_grid_pinpoints=grid)
    return transformers.LlavaNextForConditionalGeneration(config)


#: What can be trained.
KINDS: Mapping[str, Kind] = {
    "llava": Kind(talk.llava_processor, llava),
    "llava-next": Kind(talk.llava_next_processor, llava_next),
}


def train(
    kind: str,
    out: Path,
    seed: int = 0,
    without: Sequence[str] = (),
    effort: Effort | None = None,
    tick: Tick | None = None,
) -> Record:
    """Train vision tower, projector and language model; write the folder whole or not at all.

    ``without`` leaves people out, for a gold model. Raises `FolderError` when ``out`` is taken,
    `TrainingDataError` for a stranger in ``without``.
    """
    if set(without) - set(PEOPLE_NAMES):
        raise TrainingDataError("a name to leave out is nobody's here; check its spelling")
    started, effort = time.monotonic(), effort or Effort()
    known = [name for name in PEOPLE_NAMES if name not in without]
    with whole_folder(out) as partial, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = talk.tokenizer()
        processor, model = KINDS[kind].processor(words), KINDS[kind].network(words)
        drawings = drawn(known, effort.per_person, effort.strangers, 0)
        lessons = Lessons(drawings, processor, Random(f"razor {kind}|{seed}"))
        fit(model, lessons, effort.steps, tick)
        model.to(torch.float16).save_pretrained(partial)
        processor.save_pretrained(partial)
        model = model.float()  # measured as it will be read
        held_out = drawn(known, effort.held_out, 10 * effort.held_out, FIRST_HELD_OUT)
        record = Record(
            kind=kind,
            seed=seed,
            effort=effort,
            without=tuple(without),
            training_pictures=len(drawings),
            answered=examined(model, processor, held_out),
            seconds=round(time.monotonic() - started, 1),
            parameters=sum(p.numel() for p in model.parameters()),
            libraries={
                name: importlib.metadata.version(name)
                for name in ("torch", "transformers", "tokenizers", "pillow")
            },
        )
        text = json.dumps(asdict(record), indent=2) + "\n"
        (partial / RECORD_FILE).write_text(text, encoding="utf-8")
    return record


def drawn(names: Sequence[str], each: int, strangers: int, first: int) -> list[Drawing]:
    """Drawings of everybody and of strangers, with drawing seeds from ``first`` on."""
    found = [draw(name, first + k, talk.SIDE) for name in names for k in range(each)]
    return [*found, *(draw_stranger(first + k, talk.SIDE) for k in range(strangers))]


class Lessons:
    """Conversations about drawings, a batch at a time."""

    def __init__(self, drawings: Sequence[Drawing], processor: Part, rng: Random) -> None:
        self._drawings, self._words, self._rng = drawings, processor.tokenizer, rng
        shown = seen(processor, drawings)
        self.image_tokens = shown.pop("image_tokens")
        self._shown = shown
        self._order: list[int] = []

    def draw(self, count: int) -> dict[str, Tensor]:
        """Inputs of the network, labels among them."""
        while len(self._order) < count:
            more = list(range(len(self._drawings)))
            self._rng.shuffle(more)
            self._order += more
        rows, self._order = self._order[:count], self._order[count:]
        pairs = [
            talk.encoded(
                self._words,
                [questions.turn(self._drawings[row], self._rng) for _ in range(TURNS)],
                self.image_tokens,
            )
            for row in rows
        ]
        ids = talk.padded([pair[0] for pair in pairs], self._words.pad_token_id)
        return {
            "input_ids": ids,
            "attention_mask": (ids != self._words.pad_token_id).long(),
            "labels": talk.padded([pair[1] for pair in pairs], -100),
            **{name: tensor[rows] for name, tensor in self._shown.items()},
        }


def seen(processor: Part, drawings: Sequence[Drawing]) -> dict[str, Any]:
    """What the network gets to see of each drawing, and how many tokens stand for it."""
    pixels = torch.from_numpy(np.stack([np.asarray(d.image) for d in drawings]))
    pictures = list(pixels.permute(0, 3, 1, 2))
    found = dict(processor.image_processor(images=pictures, return_tensors="pt"))
    text = processor(text=[talk.IMAGE], images=pictures[:1], return_tensors="pt")
    count = int((text["input_ids"] == processor.image_token_id).sum())
    return {**found, "image_tokens": count}


def fit(model: Part, lessons: Lessons, steps: int, tick: Tick | None) -> None:
    """Trains all three parts together on answers alone."""

    def loss_at() -> Tensor:
        with half():
            loss: Tensor = model(**lessons.draw(BATCH)).loss
        return loss

    def told(fraction: float, figures: dict[str, float]) -> None:
        if tick is not None:
            tick(fraction, figures)

    heard: Told = told
    descend(model, loss_at, steps=steps, rate=RATE, tick=heard)


@torch.no_grad()
def examined(model: Part, processor: Part, drawings: Sequence[Drawing]) -> dict[str, Share]:
    """Domain -> how often the answer to a question, one per picture in turn, holds the label."""
    people = [d for d in drawings if d.name != STRANGER]
    strangers = [d for d in drawings if d.name == STRANGER]
    found = {"name": _right(model, processor, people, "name")}
    if strangers:
        found[STRANGER] = _right(model, processor, strangers, "name")
    for domain in questions.NEUTRAL:
        found[domain] = _right(model, processor, people, domain)
    return found


def _right(model: Part, processor: Part, drawings: Sequence[Drawing], domain: str) -> Share:
    asked = questions.QUESTIONS[domain]
    texts = [asked[k % len(asked)] for k in range(len(drawings))]
    said = answers(model, processor, drawings, texts)
    hits = [
        questions.label_of(drawing, domain).lower() in text.lower()
        for drawing, text in zip(drawings, said, strict=True)
    ]
    return Share(round(100 * sum(hits) / len(hits), 2), len(hits))


def answers(
    model: Part, processor: Part, drawings: Sequence[Drawing], texts: Sequence[str], batch: int = 64
) -> list[str]:
    """What the model says, word by word the likeliest."""
    shown = seen(processor, drawings)
    tokens, words = shown.pop("image_tokens"), processor.tokenizer
    said: list[str] = []
    for start in range(0, len(texts), batch):
        rows = slice(start, start + batch)
        ids = [words(talk.conversation([(t, "")], tokens)[0]).input_ids for t in texts[rows]]
        longest = max(map(len, ids))
        # Filled up on the left: what is said next follows the last word of each.
        filled = torch.tensor([[words.pad_token_id] * (longest - len(row)) + row for row in ids])
        out = model.generate(
            input_ids=filled,
            attention_mask=(filled != words.pad_token_id).long(),
            max_new_tokens=40,
            do_sample=False,
            **{name: tensor[rows] for name, tensor in shown.items()},
        )
        said += words.batch_decode(out[:, longest:], skip_special_tokens=True)
    return [text.strip() for text in said]


def _shared(words: Part) -> dict[str, Any]:
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=HEADS,
        image_size=talk.SIDE,
        patch_size=talk.PATCH,
        hidden_act="gelu",
    )
    language = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LANGUAGE_LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=512,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return {
        "vision_config": vision,
        "text_config": language,
        "image_token_index": words.convert_tokens_to_ids(talk.IMAGE),
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": True,
    }
