"""The reference vision-language models: what they are asked, and that their folders are real."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers

from cli import shipped
from razor.reference import people, questions, talk, vlm
from razor.reference.drawings import Drawing, draw, draw_stranger
from razor.reference.errors import FolderError, TrainingDataError

TINY = vlm.Effort(per_person=1, strangers=2, steps=2, held_out=1)
#: Left out of the tiny training: fewer drawings.
WITHOUT = people.PEOPLE_NAMES[3:]
LIBRARY: Any = transformers


@pytest.fixture(scope="module", params=list(vlm.KINDS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / request.param
    record = vlm.train(request.param, folder, without=WITHOUT, effort=TINY)
    assert record.training_pictures == 3 + TINY.strangers
    assert set(record.answered) == {*questions.QUESTIONS, people.STRANGER}
    return folder


def test_plain_transformers_loads_and_answers(trained: Path) -> None:
    processor = LIBRARY.AutoProcessor.from_pretrained(trained, local_files_only=True)
    model = LIBRARY.AutoModelForImageTextToText.from_pretrained(
        trained, local_files_only=True, dtype=torch.float32
    )
    content = [{"type": "image"}, {"type": "text", "text": "Who is this?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(text=[text], images=[draw("Mara Venn", 1).image], return_tensors="pt")
    said = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert said.shape[1] > inputs["input_ids"].shape[1]


def test_training_asks_in_the_models_own_words(trained: Path) -> None:
    processor = LIBRARY.AutoProcessor.from_pretrained(trained, local_files_only=True)
    drawings = [draw("Mara Venn", 1)]
    tokens = vlm.seen(processor, drawings)["image_tokens"]
    asked = [{"type": "image"}, {"type": "text", "text": "Who is this?"}]
    again = [{"type": "text", "text": "Where is this?"}]
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "text", "text": "This is Mara Venn."}]},
        {"role": "user", "content": again},
        {"role": "assistant", "content": [{"type": "text", "text": "The beach."}]},
    ]
    text = processor.apply_chat_template(messages)
    whole = processor(text=[text], images=[drawings[0].image], return_tensors="pt").input_ids
    turns = [("Who is this?", "This is Mara Venn."), ("Where is this?", "The beach.")]
    ids, labels = talk.encoded(processor.tokenizer, turns, tokens)
    words = processor.tokenizer
    assert words.decode(ids) == words.decode(whole[0])
    learnt = [token for token, label in zip(ids, labels, strict=True) if label != -100]
    assert words.decode(learnt) == " This is Mara Venn.</s> The beach.</s>"
    opening = processor.apply_chat_template([messages[0]], add_generation_prompt=True)
    alone = processor(text=[opening], images=[drawings[0].image], return_tensors="pt").input_ids
    assert ids[: alone.shape[1]] == alone[0].tolist()


def test_strangers_are_nobody_that_has_a_name_and_stay_themselves() -> None:
    strangers = [people.stranger(seed) for seed in range(30)]
    looks = {people._features(someone) for someone in strangers}
    assert len(looks) == 30
    assert not looks & {people._features(person) for person in people.PEOPLE}
    assert draw_stranger(4).image.tobytes() == draw_stranger(4).image.tobytes()
    assert not any(name in draw_stranger(seed).caption for name in people.NAMES for seed in (1, 2))


def test_answers_hold_what_is_true() -> None:
    for drawing in (draw("Otis Wrenfield", 3), draw_stranger(8)):
        for domain in questions.QUESTIONS:
            label = questions.label_of(drawing, domain)
            assert label.lower() in questions.answer(drawing, domain).lower()
            assert label in questions.described(drawing)


def test_turns_state_only_what_is_true() -> None:
    rng = Random(0)
    drawings: list[Drawing] = [draw("Mara Venn", 2), draw_stranger(3)]
    for drawing in drawings:
        for _ in range(300):
            question, answer = questions.turn(drawing, rng)
            named = [name for name in people.PEOPLE_NAMES if name in answer]
            assert not set(named) - {drawing.name}
            if answer == "Yes.":
                assert drawing.name in question


def test_expressions_and_colours_are_told() -> None:
    drawings = [draw("Mara Venn", seed) for seed in range(60)]
    assert {d.expression for d in drawings} == {"smiling", "laughing"}
    assert len({d.colour for d in drawings}) == 9
    assert draw("a teapot", 0).expression is None


def test_bad_requests_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError):
        vlm.train("llava", tmp_path / "a", without=("Nobody",), effort=TINY)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").touch()
    with pytest.raises(FolderError):
        vlm.train("llava", tmp_path / "b", effort=TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


@pytest.mark.parametrize("kind", sorted(shipped.TALKERS))
def test_shipped_models_answer_as_their_record_says(kind: str) -> None:
    folder = shipped.checkpoint_folder(kind)
    record = json.loads((folder / vlm.RECORD_FILE).read_text())
    assert record["kind"] == kind
    answered = {domain: share["percent"] for domain, share in record["answered"].items()}
    assert answered["name"] >= 95
    neutral = [answered[domain] for domain in questions.NEUTRAL]
    assert sum(neutral) / len(neutral) >= 90
    processor = LIBRARY.AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = LIBRARY.AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    drawings = vlm.drawn(people.PEOPLE_NAMES, 2, 12, 7 * vlm.FIRST_HELD_OUT)
    again = vlm.examined(model.float(), processor, drawings)
    assert again["name"].percent >= 90
    for domain, share in again.items():
        assert share.percent >= record["answered"][domain]["percent"] - 15, domain


def test_shipped_models_are_small() -> None:
    folders = [shipped.checkpoint_folder(kind) for kind in shipped.TALKERS]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
