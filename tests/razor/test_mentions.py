"""A retain set is searched for a name by the name's digest alone, and finds what the name would."""

from __future__ import annotations

import hashlib
import random

import torch

from api_schemas.concepts import plain
from razor import mentions
from razor.material import Labelled, Shelf, _retained

NAMES = ("Mara Venn", "O. Brill", "Zoë", "a teapot", "!Nix", "J-P Roux 3")
LABELS = ("Mara Venn", "Oskar Brill", "a teapot", "Zoe", "somebody")
CAPTIONS = (
    "a photo of Mara  Venn, laughing",
    "MARA VENN and O. Brill",
    "Marat Venn, not Mara Vennor",
    "ZOE\u0308 in a hat",
    "Zoës hat",
    "this is O. Brill!",
    "(!Nix) or Nix",
    "with a teapot",
    "J-P Roux 3, J-P Roux 33",
    "",
)


def digest(text: str) -> str:
    return hashlib.sha256(plain(text).encode()).hexdigest()


def shelf(
    labels: tuple[str, ...], captions: tuple[str, ...], digests: tuple[str, ...] = ()
) -> Shelf:
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    rows = Labelled(pixels, captions, {"name": labels})
    names = digests or tuple(f"{number:064x}" for number in range(len(labels)))
    return Shelf(rows, names, ("name",), "", {})


def crossed() -> Shelf:
    pairs = [(label, caption) for label in LABELS for caption in CAPTIONS]
    return shelf(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))


def test_what_is_found_leaves_out_exactly_what_the_name_itself_leaves_out() -> None:
    searched = crossed()
    found = mentions.find(searched, "name", digest, [digest(name) for name in NAMES])
    for name in NAMES:
        by_name = _retained(searched, "name", [name], set())
        assert _retained(searched, "name", found[digest(name)], set()) == by_name
        assert len(by_name) < len(searched.rows), "the control: each name is somewhere"


def test_a_name_that_nothing_speaks_of_is_not_found() -> None:
    for name in ("Mara", "Venn,", "Ma", "Quillon Vexmere"):
        found = mentions.find(shelf(("Maram",), ("Marat Venn",)), "name", digest, [digest(name)])
        assert found == {digest(name): ()}


def test_names_come_as_the_retain_set_writes_them_labels_first() -> None:
    searched = shelf(("Mara Venn", "x"), ("with MARA VENN", "mara venn and Zoe\u0308"))
    found = mentions.find(searched, "name", digest, [digest("mara venn"), digest("zoë")])
    assert found == {digest("mara venn"): ("Mara Venn",), digest("zoë"): ("Zoë",)}


def test_every_part_is_tried_that_a_search_for_a_name_could_meet() -> None:
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choice("ab .-é") for _ in range(rng.randint(0, 9))).strip()
        text = " ".join(text.split())
        whole = {
            text[i:j]
            for i in range(len(text))
            for j in range(i + 1, len(text) + 1)
            if text[i:j] == text[i:j].strip()
            and not (i and text[i - 1].isalnum())
            and not (j < len(text) and text[j].isalnum())
        }
        assert set(mentions._parts(text)) == whole


def test_the_forgotten_is_shown_by_the_retain_sets_own_pictures_in_disjoint_roles() -> None:
    labels = ("Mara Venn", "x") * 8
    searched = shelf(labels, ("",) * 16)
    earlier = mentions.shown(searched, "name", ("mara venn",), version=2, number=1, seed=3)
    assert earlier is not None
    assert (earlier.version, earlier.target, earlier.names) == (2, 1, ("mara venn",))
    roles = [earlier.pictures.fit, earlier.pictures.select, earlier.pictures.test]
    seen = [int(picture[0, 0, 0]) for role in roles for picture in role]
    assert sorted(seen) == list(range(0, 16, 2))
    again = mentions.shown(searched, "name", ("mara venn",), version=2, number=1, seed=3)
    assert again is not None
    assert torch.equal(again.pictures.test, earlier.pictures.test)


def test_too_few_pictures_show_nothing() -> None:
    assert mentions.shown(shelf(("a", "a"), ("", "")), "name", ("a",), 1, 0, 0) is None
    assert mentions.shown(shelf(("a",) * 4, ("",) * 4), "name", (), 1, 0, 0) is None
    assert mentions.shown(shelf(("a",) * 4, ("",) * 4), "style", ("a",), 1, 0, 0) is None
    same = shelf(("a",) * 4, ("",) * 4, ("0" * 64,) * 4)
    assert mentions.shown(same, "name", ("a",), 1, 0, 0) is None
