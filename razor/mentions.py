"""Where a retain set speaks of somebody whose name is not at hand: found by a digest of the name.

What the model was made to forget must not be retained, and must stay forgotten. When the request
that named it is deleted, the operator's own labels and captions still say both: which retain
examples to leave out, and which pictures to measure the forgotten on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence

from api_schemas.concepts import MAX_NAME_CHARACTERS, plain
from razor import splits
from razor.material import Earlier, Roles, Shelf

_WORD = re.compile(r"\w")


def find(
    shelf: Shelf, domain: str, digest: Callable[[str], str], wanted: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The names behind these digests, as the retain set writes them: labels first, then captions.

    A name counts where it stands by itself, as ``material.assemble`` looks for names: every part of
    a text that begins and ends with a word is tried. ``digest`` gives one value for all spellings.
    Costs a digest per part, about a hundred for a caption of ten words.
    """
    names: dict[str, dict[str, str]] = {one: {} for one in wanted}
    texts = dict.fromkeys((*shelf.rows.labels.get(domain, ()), *shelf.rows.captions))
    tried: set[str] = set()
    for text in texts:
        for part in _parts(" ".join(unicodedata.normalize("NFC", text).split())):
            if part in tried:
                continue
            tried.add(part)
            if (found := digest(part)) in names:
                names[found].setdefault(plain(part), part)
    return {one: tuple(spellings.values()) for one, spellings in names.items()}


def shown(
    shelf: Shelf, domain: str, names: Sequence[str], version: int, number: int, seed: int
) -> Earlier | None:
    """The earlier target as the retain set's own pictures show it; None where they are too few.

    They were kept out of what was retained when it was forgotten, so nothing was tuned on them,
    unless the requester had sent the same. Split by seed: the same in every later run.
    """
    own = {plain(name) for name in names}
    labels = shelf.rows.labels.get(domain, ())
    rows = [row for row, label in enumerate(labels) if plain(label) in own]
    parts = splits.split_labelled([""] * len(rows), [shelf.digests[row] for row in rows], seed)
    fit, select, test = (
        shelf.rows.pixels[[rows[i] for i in side]] for side in (parts.fit, parts.select, parts.test)
    )
    if not len(fit) or not len(select) or not len(test):
        return None
    return Earlier(version, number, domain, tuple(names), Roles(fit, select, test))


def _parts(text: str) -> Iterator[str]:
    """Every part that no letter or digit adjoins, at most as long as a name may be."""
    inside = [bool(_WORD.match(character)) for character in text]
    starts = [i for i, c in enumerate(text) if c != " " and not (i and inside[i - 1])]
    stops = [i + 1 for i, c in enumerate(text) if c != " " and not any(inside[i + 1 : i + 2])]
    for start in starts:
        for stop in stops:
            if start < stop <= start + MAX_NAME_CHARACTERS:
                yield text[start:stop]
