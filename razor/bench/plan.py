"""The rows of the benchmark: suite x method x target x seed, each with its parameters."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api_schemas.methods import Ascent, Method, Razor, Salun, Slug, Ssd
from api_schemas.requests import Probe
from razor.bench.figures import PUBLISHED
from razor.reference.people import PEOPLE

#: Four people who are no neighbours of each other; the shipped gold model never knew them.
QUICK = ("Mara Venn", "Oskar Brill", "Tilda Quist", "Bram Holloway")

#: Every gold model leaves out four people, none of whom is among another's five nearest in the
#: shipped reference CLIP (on 20 held-out drawings of each name): 6 trainings instead of 24. The
#: other three of a group are left out of what the gold model is asked to know.
GROUPS: tuple[tuple[str, ...], ...] = (
    QUICK,
    ("Juno Farrow", "Edric Sable", "Nell Amberly", "Lena Marsk"),
    ("Sunita Solane", "Kofi Dunmore", "Rufus Pell", "Yuki Tarrant"),
    ("Hugo Tamsin", "Sami Orvane", "Greta Lumley", "Amara Keld"),
    ("Ines Calloway", "Otis Wrenfield", "Felix Moorcroft", "Elsie Thorne"),
    ("Dario Finch", "Zora Plum", "Wanda Hesper", "Jabari Nolan"),
)

#: One part of RAZOR switched off at a time.
ABLATIONS: Mapping[str, Razor] = {
    "no retain": Razor(lambda_retain=0),
    "no mismatch": Razor(lambda_mismatch=0),
    "no forget": Razor(lambda_forget=0),
    "no selection": Razor(selection=False),
    "no growth": Razor(rounds=0),
    "heads off": Razor(heads=False),
    "pictures as anchor": Razor(anchor="pictures"),
    "both towers": Razor(one_tower=False),
}

RIVALS: Mapping[str, Method] = {
    "slug": Slug(),
    "ga": Ascent(method="ga"),
    "ft": Ascent(method="ft"),
    "gaft": Ascent(method="gaft"),
    "salun": Salun(),
    "ssd": Ssd(),
}


#: What a CLIP model is tried with.
ATTACKS = (Probe.QUANTIZE, Probe.RELEARN, Probe.PROMPTS, Probe.LINEAR)


@dataclass(frozen=True)
class Drawings:
    """Which drawings a world is made of: folder seeds that no training saw, and how many."""

    samples: int
    probes: int
    retain: int
    probed: int = 40  # pictures of the target beyond the request's, to measure with
    retained: int = 28  # of each name


#: What methods were developed and are tuned on, and what is drawn for the comparison alone.
DEVELOPMENT, COMPARISON = Drawings(2, 3, 4), Drawings(6, 7, 8)
#: For a look within minutes.
SMALL = Drawings(6, 7, 8, probed=20, retained=14)


@dataclass(frozen=True)
class Job:
    """One run. Most give one row; a request for several targets gives one for each."""

    suite: str
    method: str
    targets: tuple[str, ...]
    seed: int = 0
    variant: str = ""
    params: Method | None = None  # None for gold, which edits nothing
    probes: tuple[Probe, ...] = ATTACKS  # attacks, where any are tried
    small: bool = False  # fewer pictures, for a quick look

    def key(self) -> str:
        """Names the job by everything that decides its result, so that a changed one runs anew."""
        params = self.params.model_dump(mode="json") if self.params else None
        parts = [
            self.suite,
            self.method,
            self.targets,
            self.seed,
            self.variant,
            params,
            self.probes,
            self.small,
        ]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        words = [self.suite, self.method, self.variant, self.targets[0], str(self.seed)]
        return "-".join(word.replace(" ", "_") for word in words if word) + f"-{digest[:10]}"


def people() -> tuple[str, ...]:
    """Every target of the reference."""
    return tuple(person.name for person in PEOPLE)


def tuning(targets: Sequence[str], grids: Mapping[str, Sequence[Method]]) -> list[Job]:
    """Every setting of every rival's grid on a few targets."""
    return [
        Job("tuning", method, (target,), variant=str(number), params=params)
        for method, grid in grids.items()
        for number, params in enumerate(grid)
        for target in targets
    ]


def pairs(targets: Sequence[str], slug: Method, seed: int) -> list[Job]:
    """RAZOR and SLUG on every target, next to each other: what else the machine does meets both."""
    return [
        Job("clip", method, (target,), seed, params=params)
        for target in targets
        for method, params in (("slug", slug), ("razor", Razor()))
    ]


def published(targets: Sequence[str]) -> list[Job]:
    """SLUG as published where another setting was the best of its grid: for figures and costs."""
    return [
        Job("clip", "slug", (target,), variant=PUBLISHED, params=Slug(), probes=())
        for target in targets
    ]


def others(targets: Sequence[str], rivals: Mapping[str, Method]) -> list[Job]:
    """Every other rival on every target, with one seed."""
    return [
        Job("clip", method, (target,), params=params)
        for target in targets
        for method, params in rivals.items()
        if method != "slug"
    ]


def golds(targets: Sequence[str]) -> list[Job]:
    """The model that never knew the target, measured in the edited one's place."""
    return [Job("clip", "gold", (target,)) for target in targets]


def ablations(targets: Sequence[str]) -> list[Job]:
    """RAZOR as it is and with each part off."""
    variants: dict[str, Razor] = {"": Razor(), **ABLATIONS}
    return [
        Job("ablation", "razor", (target,), variant=variant, params=params)
        for variant, params in variants.items()
        for target in targets
    ]


def several() -> list[Job]:
    """One request for two and for four people, and five requests one after another."""
    groups = [group[:2] for group in GROUPS] + [group for group in GROUPS[:3]]
    jobs = [
        Job("several", "razor", group, variant=f"{len(group)} targets", params=Razor())
        for group in groups
    ]
    line = tuple(group[0] for group in GROUPS[:5])
    return [*jobs, Job("line", "razor", line, params=Razor())]


def faces(names: Sequence[str]) -> list[Job]:
    """RAZOR, SLUG and gold on pictures from a folder."""
    return [
        Job("faces", method, (name,), params=params)
        for name in names
        for method, params in (("slug", Slug()), ("razor", Razor()), ("gold", None))
    ]


def groups_of(names: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Names in groups of ``size``, for gold models on a folder."""
    return tuple(tuple(names[i : i + size]) for i in range(0, len(names), size))


def named(params: Method | None) -> dict[str, Any]:
    """The parameters as JSON."""
    return params.model_dump(mode="json") if params else {}


def best(
    grids: Mapping[str, Sequence[Method]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Method]:
    """Of each grid the setting of least mean regret on select pictures; the first of equals."""
    chosen = {}
    for method, grid in grids.items():
        regrets = [
            statistics.mean(
                row["regret"]
                for row in rows
                if row["method"] == method and row["params"] == named(params)
            )
            for params in grid
        ]
        chosen[method] = grid[regrets.index(min(regrets))]
    return chosen
