"""``speed.md``: what jobs cost beside their floor, computed from the rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from razor.bench import speed_plot, weighed
from razor.bench.document import versions
from razor.bench.speed import Row
from razor.bench.speed_rows import (
    FLOOR,
    MEMORY,
    PATCH,
    SLUG,
    STREAM,
    UNITS,
    WARM,
    data,
    edit,
    family_of,
    floor,
    jobs,
    memory,
    method,
    named,
    parts,
    ratio_to_floor,
    ratio_to_slug,
    read,
    read_seconds,
    start,
    triples,
)
from razor.bench.tables import markdown
from razor.bench.weighed import REFERENCE

NAME: Final = "speed"
PLOT: Final = "speed_cost.png"
GIGABYTE: Final = 1e9

HEAD: Final = """# Speed: what a job costs, beside the least that it could

`{command}`

Random weights in real shapes, shipped models as they are: a job's cost is real and its result means
nothing. {shapes}.
Jobs are whole: preflight, edit, evaluation, as a worker runs them, without attacks. What RAZOR's
gauge answers is scripted to the length of a typical run
({script}); SLUG is the published procedure: ten evaluations,
one unit. Each point is a process of its own, {threads} threads, seed 0; **ratios** count, not
seconds. {versions}.

- **cold job**: the first after a start, with nothing kept; **warm job**: the same request again in
  that process.
- **floor** of an edit: one forward and backward over the fit data for all units, and a plain
  forward of each row that the edit's readings ask for, each by itself and from the first layer
  on. All measured in the same process, medians of three. Texts that share their beginnings let an
  edit fall below it. Ratios are of seconds that the process computed, which others on the
  machine change little; where a row does not tell them, of seconds that passed.
- **memory**: the highest resident size of a cold job, over plain inference on the fit data in a
  process of its own plus one gradient of the units.
"""
SHAPES: Final[Mapping[str, str]] = {
    "clip": "CLIP: open_clip's own configurations, float32",
    "diffusion": "Generators: Stable Diffusion's, float16 on disk and float32 at work",
    "vlm": "Vision-language models: LLaVA's, float16 on disk and float32 at work",
}
#: What is said of a family whose large models see less.
REDUCED: Final[Mapping[str, str]] = {
    "diffusion": """- **large generators** see less of everything, or a job would take two cores
  hours: {updates} updates of one unit instead of {whole} of up to six, 2 rows in a batch instead of
  32, 8 retained latents instead of 512, one denoising step instead of 20, one picture painted of
  the target for measuring instead of 64.
  For each row that is fitted on, such an edit has 2.3 in updates and 2.5 in readings between them;
  a whole one has 3.4 and 4.5. The floor counts the rows that there are. No warm job, and each part
  of the floor is measured once. SLUG's search is as long as ever, so its job is no measure for a
  shortened one: its seconds are shown, and no ratio.""",
    "vlm": """- **large vision-language models** likewise: {updates} updates instead of
  {whole}, 4 questions in a batch instead of 64, answers of four tokens instead of up to 48.""",
}


def write(rows: Sequence[Row], folder: Path, command: str) -> None:
    """The document, its raw rows and its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = json.dumps(list(rows), indent=1) + "\n"
    (folder / f"{NAME}.json").write_text(raw, encoding="utf-8")
    drawn = speed_plot.draw(rows, folder / PLOT)
    (folder / f"{NAME}.md").write_text(text(rows, command, plot=drawn), encoding="utf-8")


def text(rows: Sequence[Row], command: str, *, plot: bool = False) -> str:
    """The document in Markdown."""
    found = [_head(rows, command), "## Figures to reach", _figures(rows), "## Jobs", _jobs(rows)]
    found += ["## Where an edit's time goes", _edits(rows), "## Cold start", _cold(rows)]
    found += ["## Patched weights as a stream", _streams(rows)]
    found += ["## What stands between an edit and its floor", _between(rows)]
    if plot:
        found += ["## Cost of CLIP models against size and data", f"![cost]({PLOT})"]
    return "\n\n".join(found) + "\n"


def _head(rows: Sequence[Row], command: str) -> str:
    families = list(dict.fromkeys(map(family_of, rows)))
    paces = {family: weighed.of(family).PACE for family in families}
    script = ", ".join(
        f"{family}: {pace.forgotten_after} updates"
        + (f" and {pace.repaired_after} that repair" if pace.repaired_after else "")
        for family, pace in paces.items()
    )
    head = HEAD.format(
        command=command,
        shapes=". ".join(SHAPES[family] for family in families),
        script=script,
        threads=" or ".join(map(str, sorted({row["threads"] for row in rows}))),
        versions=versions(("torch", "open-clip-torch", "diffusers", "transformers")),
    )
    reduced = {family_of(row) for row in rows if row.get("reduced")}
    notes = [
        REDUCED[family].format(
            updates=weighed.of(family).REDUCED_PACE.updates, whole=paces[family].updates
        )
        for family in families
        if family in reduced
    ]
    return head + "\n".join(notes) + ("\n" if notes else "")


#: What is wanted: name, what was found, bound, whether it is an upper one, its unit.
Check = tuple[str, float, float, bool, str]


def _checks(razor: Row, slug: Row, plain: Row) -> Iterator[Check]:
    family = family_of(razor)
    yield "edit / floor", ratio_to_floor(razor), FLOOR[family], True, "x"
    # SLUG's search is as long as published: beside a shortened run of RAZOR's it says nothing.
    for job in [] if razor.get("reduced") else jobs(razor):
        ratio = ratio_to_slug(razor, slug, job)
        yield f"job / SLUG's job, {job.removesuffix('_job')}", ratio, SLUG, True, "x"
    yield "memory", memory(razor, plain), MEMORY, True, "x"
    if family == "diffusion":
        yield "patch", razor["cold_job"]["patch_bytes"] / GIGABYTE, PATCH, True, " GB"
    if "warm_job" in razor:
        cold = start(plain) + razor["cold_job"]["seconds"]
        second = razor["warm_job"]["seconds"]
        yield "first job of a cold worker / second", cold / second, WARM, False, "x"


def _figures(rows: Sequence[Row]) -> str:
    lines = []
    for razor, slug, plain in triples(rows):
        if razor["size"] == REFERENCE:
            continue
        for what, found, bound, upper, unit in _checks(razor, slug, plain):
            met = found <= bound if upper else found >= bound
            wanted = f"at {'most' if upper else 'least'} {bound:g}{unit}"
            shown = f"{found:.{3 if unit == ' GB' else 2}f}{unit}"
            lines.append([data(razor), what, wanted, shown, "yes" if met else "no"])
    return markdown(("model", "figure", "wanted", "found", "reached"), lines)


def _jobs(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row["method"] is None:
            continue
        cold = row["cold_job"]
        lines.append(
            [
                named(row),
                method(row),
                f"{row['weights'] / 1e6:.0f} M",
                str(row["samples"]),
                f"{row['fit_pairs']} + {row['select_pairs']}",
                f"{cold['seconds']:.1f}",
                f"{row['warm_job']['seconds']:.1f}" if "warm_job" in row else "",
                *(
                    f"{cold['phase_seconds'][phase]:.1f}"
                    for phase in ("preflight", "edit", "evaluate")
                ),
                f"{cold['forward_passes']} + {cold['backward_passes']}",
                f"{cold['peak_memory_bytes'] / GIGABYTE:.2f}",
                f"{cold['patch_bytes'] / 1e6:.2f}",
                ", ".join(cold["edited"]),
            ]
        )
    return markdown(
        ("model", "method", "weights", "samples", "fit + select pairs", "cold job, s",
         "warm job, s", "preflight, s", "edit, s", "evaluate, s", "passes forward + backward",
         "peak, GB", "patch, MB", "edited"),
        lines,
    )  # fmt: skip


def _edits(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row["method"] is None:
            continue
        for job in jobs(row):
            floors = parts(row)
            lines.append(
                [
                    f"{named(row)}, {row['fit_pairs']} fit pairs",
                    method(row),
                    job.removesuffix("_job"),
                    f"{edit(row, job):.2f}",
                    f"{floors['fit'] if job == 'cold_job' else 0:.2f}",
                    ", ".join(
                        f"{count} {UNITS[part]} x {1000 * floors[part]:.2f}"
                        for part, count in read(row, job).items()
                    ),
                    f"{floor(row, job):.2f}",
                    f"{ratio_to_floor(row, job):.2f}",
                    " + ".join(map(str, read(row, job, "gradient").values())),
                ]
            )
    return markdown(
        ("model", "method", "job", "edit, s", "fit data once, s", "read x ms", "floor, s",
         "edit / floor", "the same with a gradient"),
        lines,
    )  # fmt: skip


def _cold(rows: Sequence[Row]) -> str:
    steps = ("import", "digest", "load", "retain set")
    lines = [
        [f"{named(row)}, {row['fit_pairs']} fit pairs"]
        + [f"{row['cold'][part]:.2f}" for part in steps]
        + [f"{start(row):.2f}"]
        for row in rows
        if row["method"] is None
    ]
    return markdown(("model", *(f"{part}, s" for part in steps), "in all, s"), lines)


BETWEEN: Final[Mapping[str, str]] = {
    "clip": """Everything in a cold edit that is not in its floor is gradients: the floor
has one pass over the fit data for all units, an edit has {updates} updates, each with a batch of
retained captions and one that names the target. They go through the text tower alone, the tower
that is edited first; the pictures of the fit data need no gradient until it has failed, which is
why some edits stay below what the floor allows for them. SLUG scores both towers, so its first
job on a version costs about as much; with that kept, its four gradients and ten readings are
cheaper than any edit of many short updates: what these spare the rest of the model is paid for
in passes.""",
    "diffusion": """Generators: text encoders are edited first, and a gradient of theirs comes back
through the whole denoiser, whose layers are computed a second time on the way. An update shows
the denoiser each retained latent twice, with its prompt and without, for the drift of guided
answers; SLUG never looks at what it harms on the way.""",
    "vlm": """Vision-language models: RAZOR edits the projector, so the vision tower is asked
once for each picture and never again; what is left is the language model, which every gradient
passes through. SLUG edits the tower and computes it for every reading anew.""",
}


def _between(rows: Sequence[Row]) -> str:
    """Where RAZOR's cold edits spend their time, and why."""
    lines = []
    for row in rows:
        if row["method"] != "razor" or not row["caches"]:
            continue
        seconds = edit(row, "cold_job")
        share = read_seconds(row, "cold_job") / seconds
        lines.append(
            [
                data(row),
                f"{100 * share:.0f} %",
                f"{100 * parts(row)['fit'] / seconds:.0f} %",
            ]
        )
    # Shared beginnings make readings cheaper than these: what is left for gradients is not told.
    heads = ("model", "readings, if their rows were whole", "the floor's one pass")
    families = dict.fromkeys(map(family_of, rows))
    why = [BETWEEN[each].format(updates=weighed.of(each).PACE.updates) for each in families]
    return "\n\n".join([*why, markdown(heads, lines)])


def _streams(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if "stream" in row and row["caches"]:
            found = row["stream"]
            ours, cat = (statistics.median(found["seconds"][who]) for who in ("ours", "cat"))
            lines.append(
                [
                    data(row),
                    f"{found['bytes'] / 1e6:.1f}",
                    f"{ours:.3f}",
                    f"{cat:.3f}",
                    f"{ours / cat:.2f}x",
                    f"at most {STREAM:g}x",
                    f"{found['added_memory_bytes'] / 1e6:.1f}",
                ]
            )
    return markdown(
        ("model", "MB", "ours, s", "cat, s", "ratio", "wanted", "memory added, MB"), lines
    )
