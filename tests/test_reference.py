"""Laws of the drawn people, their folders and the reference CLIP."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from razor.reference import clip, folders, people, pictures, vocabulary, zeroshot
from razor.reference.captions import PROMPTS, aliases
from razor.reference.drawings import draw
from razor.reference.errors import (
    FolderError,
    TrainingDataError,
    UnknownSubjectError,
    WeightsError,
)

# Far above every seed of training (0 to 199) and of held-out measuring (900,000 on).
FRESH_SEED = 77_000_000
TINY_NAMES = ("Mara Venn", "Juno Farrow", "a teapot")


def digest(name: str, seed: int) -> str:
    return hashlib.sha256(draw(name, seed).image.tobytes()).hexdigest()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Work this small waits for its threads longer than it computes when the machine is busy.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shipped() -> Path:
    return clip.shipped_clip()


@pytest.fixture
def drawn_folder(tmp_path: Path) -> Path:
    return folders.write_folder(tmp_path / "drawn", TINY_NAMES, 6, seed=3)


def rewrite_index(folder: Path, change: dict[str, str] | None, drop: str | None = None) -> None:
    """Change cells of the first row, or drop a column."""
    with (folder / folders.INDEX).open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0].update(change or {})
    columns = [column for column in folders.COLUMNS if column != drop]
    with (folder / folders.INDEX).open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


# People and drawings


def test_people_are_distinct_in_every_word_and_in_looks() -> None:
    words = [word for name in people.PEOPLE_NAMES for word in name.split()]
    assert len(people.PEOPLE) == 24
    assert len(set(words)) == len(words) == 48
    assert len({person.looks for person in people.PEOPLE}) == 24


def test_drawing_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from razor.reference.drawings import draw;"
        "print(hashlib.sha256(draw('Mara Venn', 5).image.tobytes()).hexdigest())"
    )
    # A different hash seed each time is what would betray a use of hash().
    there = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(clip.__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    assert there == [digest("Mara Venn", 5)] * 2


def test_every_subject_and_every_seed_gives_another_picture() -> None:
    digests = [digest(name, seed) for name in people.NAMES for seed in range(4)]
    assert len(set(digests)) == len(digests)


def test_fixed_attributes_are_obeyed_and_change_nothing_else() -> None:
    free = draw("Zora Plum", 11)
    style = next(style for style in people.STYLES if style != free.style)
    fixed = draw("Zora Plum", 11, style=style)
    assert fixed.style == style
    assert (fixed.scene, fixed.accessory) == (free.scene, free.accessory)
    assert fixed.image.tobytes() != free.image.tobytes()
    same = draw("Zora Plum", 11, style=free.style)
    assert same.image.tobytes() == free.image.tobytes()


def test_size_is_a_parameter() -> None:
    assert draw("a guitar", 0, size=48).image.size == (48, 48)


@pytest.mark.parametrize("wrong", [{"style": "fresco"}, {"scene": "moon"}, {"accessory": "crown"}])
def test_unknown_subjects_and_attributes_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UnknownSubjectError):
        draw("Mara Venn", 0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownSubjectError):
        draw("Mara Ven", 0)


def test_captions_state_only_what_is_true() -> None:
    for seed in range(40):
        for name in ("Mara Venn", "a cactus"):
            row = draw(name, seed)
            others = {
                "scene": set(people.SCENES) - {row.scene},
                "accessory": set(people.ACCESSORIES) - {row.accessory},
                "style": set(people.STYLES) - {row.style},
                "name": {n for n in people.NAMES if n != name},
            }
            assert not [v for vs in others.values() for v in vs if v in row.caption]


# Folders


def test_folder_round_trips(drawn_folder: Path) -> None:
    rows = folders.read_folder(drawn_folder)
    assert [row.name for row in rows] == [name for name in TINY_NAMES for _ in range(6)]
    first = draw(TINY_NAMES[0], 3 * folders.SEEDS_PER_FOLDER)
    assert rows[0].caption == first.caption
    assert (rows[0].scene, rows[0].style) == (first.scene, first.style)
    with Image.open(drawn_folder / rows[0].path) as image:
        assert image.tobytes() == first.image.tobytes()


def test_folder_of_the_same_arguments_has_the_same_bytes(drawn_folder: Path) -> None:
    again = folders.write_folder(drawn_folder.parent / "again", TINY_NAMES, 6, seed=3)
    other = folders.write_folder(drawn_folder.parent / "other", TINY_NAMES, 6, seed=4)

    def content(folder: Path) -> list[bytes]:
        return [path.read_bytes() for path in sorted(folder.iterdir())]

    assert content(drawn_folder) == content(again)
    assert content(drawn_folder) != content(other)


def test_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(UnknownSubjectError):
        folders.write_folder(tmp_path / "half", ("Mara Venn", "nobody"), 2, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_folder_in_use_is_not_overwritten(drawn_folder: Path) -> None:
    with pytest.raises(FolderError, match="already there"):
        folders.write_folder(drawn_folder, TINY_NAMES, 2, seed=0)


@pytest.mark.parametrize(
    ("change", "drop", "message"),
    [
        (None, "caption", "lacks the column caption"),
        ({"path": "../secret.png"}, None, "leaves the folder"),
        ({"path": "/etc/hostname"}, None, "leaves the folder"),
        ({"path": "gone.png"}, None, "there is no file"),
        ({"name": " "}, None, "cell name is empty"),
    ],
)
def test_bad_index_is_refused(
    drawn_folder: Path, change: dict[str, str] | None, drop: str | None, message: str
) -> None:
    rewrite_index(drawn_folder, None)
    assert folders.read_folder(drawn_folder)
    rewrite_index(drawn_folder, change, drop)
    with pytest.raises(FolderError, match=message):
        folders.read_folder(drawn_folder)


def test_folder_without_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"holds no index\.csv"):
        folders.read_folder(tmp_path)


def test_symlink_out_of_the_folder_is_refused(drawn_folder: Path) -> None:
    outside = drawn_folder.parent / "outside.png"
    draw("Mara Venn", 0).image.save(outside)
    (drawn_folder / "link.png").symlink_to(outside)
    rewrite_index(drawn_folder, {"path": "link.png"})
    with pytest.raises(FolderError, match="leaves the folder"):
        folders.read_folder(drawn_folder)


def test_grey_pictures_of_any_size_are_read_and_other_formats_refused(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 90).save(tmp_path / "grey.pgm")
    assert folders.open_picture(tmp_path / "grey.pgm", 64).getpixel((5, 5)) == (90, 90, 90)
    Image.new("L", (40, 30), 90).save(tmp_path / "moving.gif")
    with pytest.raises(FolderError):
        folders.open_picture(tmp_path / "moving.gif", 64)


# Captions against pictures


def test_a_caption_matches_whom_it_is_true_of() -> None:
    rows = (
        folders.Row("", "Mara Venn", "a picture of Mara Venn", "beach", "a hat", "pencil"),
        folders.Row("", "Mara Venn", "a pencil picture", "city", "glasses", "pencil"),
        folders.Row("", "Juno Farrow", "Juno at the beach", "beach", "glasses", "poster"),
        folders.Row("", "Juno Farrow", "no word of it", "city", "a hat", "pencil"),
    )
    truth = pictures.matches(*pictures.facts(rows)).tolist()
    assert truth == [
        [True, True, False, False],
        [True, True, False, True],
        [False, False, True, False],
        [False, False, True, True],
    ]


def test_aliases_of_people_are_used_and_strangers_have_none() -> None:
    assert aliases("Mara Venn")[0] == "Mara Venn"
    assert {"Mara", "Venn"} <= set(aliases("Mara Venn"))
    assert aliases("Somebody Else") == ("Somebody Else",)


def test_contrast_with_one_positive_is_open_clips_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(6, 8, generator=generator), dim=1)
    theirs = open_clip.loss.ClipLoss()(images, texts, torch.tensor(9.0))
    ours = clip.contrast(9.0 * texts @ images.T, torch.eye(6, dtype=torch.bool))
    torch.testing.assert_close(ours, theirs)
    assert not torch.isclose(
        clip.contrast(9.0 * texts @ images.T, torch.ones(6, 6, dtype=torch.bool)), theirs
    )


# Tokenizer


def test_tokenizer_spells_anything_and_ends_where_the_text_tower_reads(shipped: Path) -> None:
    tokenize = open_clip.get_tokenizer(f"local-dir:{shipped}")
    texts = ["a picture of Mara Venn", "Maara Ven", "MARA VENN", "Ж名前 🙂", "word " * 90]
    ids = tokenize(texts)
    end = tokenize.tokenizer.eos_token_id
    assert ids.shape == (5, vocabulary.CONTEXT)
    assert int(ids.max()) == end == len(tokenize.tokenizer) - 1
    assert ((ids == end).sum(dim=1) == 1).all()
    back = [tokenize.tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids[:4]]
    assert back == ["a picture of mara venn", "maara ven", "mara venn", "ж名前 🙂"]
    model, _ = clip.load_clip(shipped)
    with torch.inference_mode():
        right, wrong, other = model.encode_text(
            tokenize(["a picture of Mara Venn", "a picture of Maara Ven", "a picture of a teapot"]),
            normalize=True,
        )
    assert not torch.equal(right, wrong)
    assert right @ wrong > right @ other


def test_loading_asks_no_network(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*where: object, **how: object) -> None:
        asked.append(where)
        raise OSError("no network here")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    clip.load_clip(shipped)
    assert asked == []
    with pytest.raises(OSError, match="no network here"):
        socket.create_connection(("localhost", 80))
    assert asked


def test_padding_does_not_disturb_the_text(shipped: Path) -> None:
    model, tokenize = clip.load_clip(shipped)
    ids = tokenize(["a picture of Mara Venn"])
    end = int(ids.argmax())
    noisy, broken = ids.clone(), ids.clone()
    noisy[0, end + 1 :] = 7
    broken[0, end - 1] = 7
    with torch.inference_mode():
        plain = model.encode_text(ids)
        assert torch.equal(plain, model.encode_text(noisy))
        assert not torch.equal(plain, model.encode_text(broken))


def test_vocabulary_is_the_shipped_one_whoever_is_left_out(shipped: Path, tmp_path: Path) -> None:
    tokenizer = vocabulary.build_tokenizer(vocabulary.drawing_texts())
    vocabulary.save_tokenizer(tokenizer, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes()
    assert 600 <= tokenizer.get_vocab_size() <= 1000


def test_our_encoding_is_open_clips(shipped: Path) -> None:
    tokenizer = vocabulary.build_tokenizer(vocabulary.drawing_texts())
    texts = [template.format("Oskar Brill") for ts in PROMPTS.values() for template in ts]
    theirs = open_clip.get_tokenizer(f"local-dir:{shipped}")(texts)
    assert vocabulary.encode(tokenizer, texts) == theirs.tolist()


# Training


def test_a_few_steps_lower_the_loss_and_are_reproducible() -> None:
    few = pictures.draw_pictures(TINY_NAMES, 6, 0)
    tokenizer = vocabulary.build_tokenizer(vocabulary.drawing_texts())
    tokens = torch.tensor(vocabulary.encode(tokenizer, [row.caption for row in few.rows]))

    def losses(seed: int) -> list[float]:
        torch.manual_seed(seed)
        model = open_clip.CLIP(**clip.model_config(tokenizer.get_vocab_size()))
        return clip.fit(model, few, tokens, seed=seed, steps=8)

    first = losses(0)
    assert sum(first[-3:]) / 3 < first[0] - 0.1
    assert losses(0) == first
    assert losses(1) != first


def test_training_on_a_folder_leaves_the_name_out(drawn_folder: Path, tmp_path: Path) -> None:
    rewrite_index(drawn_folder, None, drop="style")
    seen: list[tuple[float, dict[str, float]]] = []
    state = torch.random.get_rng_state()
    record = clip.train_clip(
        tmp_path / "gold",
        without=("Mara Venn",),
        data=drawn_folder,
        steps=2,
        tick=lambda fraction, figures: seen.append((fraction, figures)),
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert record.names == ("Juno Farrow", "a teapot")
    assert record.without == ("Mara Venn",)
    assert record.training_pictures == 10
    assert record.held_out["name"].n == 2
    assert "style" not in record.held_out
    assert seen[-1][0] == 1.0
    assert "loss" in seen[-1][1]
    assert clip.read_record(tmp_path / "gold") == record
    everybody = clip.train_clip(tmp_path / "all", data=drawn_folder, steps=1)
    again = clip.train_clip(tmp_path / "again", data=drawn_folder, steps=1)
    other = clip.train_clip(tmp_path / "other", data=drawn_folder, steps=1, seed=1)
    assert again.weights_sha256 == everybody.weights_sha256 != other.weights_sha256
    assert "Mara Venn" in everybody.names
    assert everybody.data_digest != record.data_digest
    same = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("gold", "all")]
    assert same[0] == same[1]


def test_cancelled_training_leaves_nothing(drawn_folder: Path, tmp_path: Path) -> None:
    def stop(fraction: float, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        clip.train_clip(tmp_path / "stopped", data=drawn_folder, steps=3, tick=stop)
    assert sorted(tmp_path.iterdir()) == before


def test_training_refuses_strangers_and_too_few(drawn_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="not among the pictures"):
        clip.train_clip(tmp_path / "a", without=("Mara Ven",), data=drawn_folder, steps=1)
    with pytest.raises(TrainingDataError, match="fewer than two"):
        clip.train_clip(tmp_path / "b", without=TINY_NAMES[:2], data=drawn_folder, steps=1)


def test_split_is_disjoint_complete_and_stable_under_leaving_out() -> None:
    everybody = pictures.draw_pictures(TINY_NAMES, 8, 0)
    train, held_out = pictures.split_pictures(everybody, seed=1)

    def prints(part: pictures.PictureSet) -> set[bytes]:
        return {picture.numpy().tobytes() for picture in part.pixels}

    assert prints(train) | prints(held_out) == prints(everybody)
    assert not prints(train) & prints(held_out)
    assert set(held_out.names()) == set(TINY_NAMES)
    fewer = pictures.split_pictures(everybody.without(TINY_NAMES[:1]), seed=1)
    assert prints(fewer[1]) == prints(held_out.without(TINY_NAMES[:1]))
    other = pictures.split_pictures(everybody, seed=2)
    assert prints(other[1]) != prints(held_out)


# The shipped weights


def test_shipped_weights_are_what_their_record_says(shipped: Path, tmp_path: Path) -> None:
    record = clip.read_record(shipped)
    assert record.names == people.NAMES
    assert record.without == ()
    assert min(accuracy.n for accuracy in record.held_out.values()) >= 20 * len(people.NAMES)
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 15_000_000
    copy = tmp_path / "copy"
    shutil.copytree(shipped, copy)
    weights = copy / clip.WEIGHTS_FILE
    spoilt = bytearray(weights.read_bytes())
    spoilt[-1] ^= 1
    weights.write_bytes(spoilt)
    with pytest.raises(WeightsError, match="is not what its record says"):
        clip.read_record(copy)
    (copy / clip.RECORD_FILE).write_text(json.dumps({"seed": 0}))
    with pytest.raises(WeightsError, match="no readable"):
        clip.read_record(copy)


def test_shipped_clip_knows_everybody_on_fresh_drawings(shipped: Path) -> None:
    fresh = pictures.draw_pictures(people.NAMES, 10, FRESH_SEED)
    model, tokenize = clip.load_clip(shipped)
    found = zeroshot.zero_shot_accuracies(model, tokenize, fresh)
    assert {domain: accuracy.n for domain, accuracy in found.items()} == dict.fromkeys(
        pictures.DOMAINS, 290
    )
    for domain, accuracy in found.items():
        assert accuracy.percent >= 95, domain
    # Negative control: without its training the same network guesses.
    torch.manual_seed(0)
    blank = open_clip.CLIP(**clip.model_config(model.vocab_size))
    guessed = zeroshot.zero_shot_accuracies(blank, tokenize, fresh)
    assert guessed["name"].percent < 20


def test_pictures_survive_the_checkpoints_own_preprocessing(shipped: Path) -> None:
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{shipped}")
    drawing = draw("Mara Venn", FRESH_SEED)
    buffer = io.BytesIO()
    drawing.image.save(buffer, "PNG")
    ours = zeroshot.network_input(pictures.draw_pictures(["Mara Venn"], 1, FRESH_SEED).pixels)
    with Image.open(buffer) as image:
        torch.testing.assert_close(preprocess(image), ours[0], atol=1e-6, rtol=0)
