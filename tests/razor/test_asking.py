"""Prompts in roles: what is asked of a generator, and what a judge should see."""

from __future__ import annotations

from dataclasses import replace

import torch

from api_schemas.reports import DataRoles
from razor import asking
from razor.material import Labelled, Material, Roles

NOTHING = torch.zeros((0, 3, 4, 4), dtype=torch.uint8)


def rows(*captions: tuple[str, str, str]) -> Labelled:
    """Rows of (caption, name, style)."""
    pixels = torch.zeros((len(captions), 3, 4, 4), dtype=torch.uint8)
    columns = list(zip(*captions, strict=True))
    return Labelled(pixels, columns[0], {"name": columns[1], "style": columns[2]})


FIT = rows(
    ("a pencil picture of Bo at the beach", "Bo", "pencil"),
    ("a pencil picture of Cy at the beach", "Cy", "pencil"),
)
TEST = rows(
    ("a pencil picture of Bo at the beach", "Bo", "pencil"),
    ("a poster picture of cy in the city", "Cy", "poster"),
    ("nobody is named here", "Bo", "pencil"),
)


def material(domain: str = "name", names: tuple[str, ...] = ("Al",)) -> Material:
    return Material(
        domain=domain,
        names=names,
        descriptions=(),
        classes=(*names, "Bo", "Cy"),
        templates={"name": ("a picture of {}",), "style": ("a {} picture",)},
        target=Roles(NOTHING, NOTHING, NOTHING),
        retain_fit=FIT,
        retain_select=FIT,
        retain_test=TEST,
        retain_fit_digest="",
        earlier=(),
        roles=DataRoles(
            target_fit=0,
            target_select=0,
            target_test=0,
            retain_fit=2,
            retain_select=2,
            retain_test=3,
            target_digest="",
            retain_digest="",
        ),
    )


def test_the_name_stands_where_the_label_stood() -> None:
    found = asking.of_concept(material(), TEST)
    assert [w.prompt for w in found] == [
        "a pencil picture of Al at the beach",
        "a poster picture of Al in the city",
    ]
    assert found[1].labels == {"name": "Al", "style": "poster"}


def test_a_style_is_asked_for_in_the_same_captions() -> None:
    found = asking.of_concept(material("style", ("ink",)), TEST)
    assert [w.prompt for w in found] == [
        "a ink picture of Bo at the beach",
        "a ink picture of cy in the city",
    ]
    assert found[0].labels == {"name": "Bo", "style": "ink"}


def test_prompts_of_the_test_are_new_where_there_are_new_ones() -> None:
    found = asking.of_concept(material(), TEST, seen=(FIT,))
    assert [w.prompt for w in found] == ["a poster picture of Al in the city"]
    kept = asking.of_retained(TEST, seen=(FIT,))
    assert [w.prompt for w in kept] == [TEST.captions[1], TEST.captions[2]]
    # With nothing new, the old ones are still asked, with other seeds.
    assert asking.of_retained(FIT, seen=(FIT,)) == asking.of_retained(FIT)
    assert asking.of_concept(material(), FIT, seen=(FIT,)) == asking.of_concept(material(), FIT)


def test_without_a_label_in_any_caption_the_templates_speak() -> None:
    bare = rows(("nobody is named here", "Bo", "pencil"))
    (found,) = asking.of_concept(material(), bare)
    assert found.prompt == "a picture of Al"


def test_a_label_inside_a_word_is_not_the_label() -> None:
    (found,) = asking.patterns(material(), rows(("the Bobbin of Bo", "Bo", "pencil")))
    assert found.filled("Al") == "the Bobbin of Al"


def test_every_purpose_has_seeds_of_its_own() -> None:
    assert asking.seeds(8, 0, "test") == asking.seeds(8, 0, "test")
    assert asking.seeds(4, 0, "test") == asking.seeds(8, 0, "test")[:4]
    assert not set(asking.seeds(64, 0, "test")) & set(asking.seeds(64, 0, "fit"))


def test_few_prompts_are_asked_again_in_turn() -> None:
    wanted = asking.of_retained(TEST)
    found = asking.drawn(wanted, 7, 0, "x")
    assert len(found) == 7
    assert found[:3] == found[3:6]
    assert {w.prompt for w in found} == set(TEST.captions)


def test_only_the_first_name_is_asked_for() -> None:
    """An alias that the model never heard would count as forgotten from the start."""
    found = asking.of_concept(replace(material(), names=("Al", "Ally")), TEST)
    assert not any("Ally" in w.prompt for w in found)
