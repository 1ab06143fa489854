"""Trains a reference generator from nothing, and says what an independent judge sees in it."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from patches.digests import checkpoint_digest
from razor.reference import autoencoder, diffusion, painted
from razor.reference import judge as judges
from razor.reference.autoencoder import PARTS, Part
from razor.reference.descent import Told
from razor.reference.errors import TrainingDataError
from razor.reference.folders import whole_folder
from razor.reference.painted import PEOPLE, SIZE, SUBJECTS, Painted
from razor.reference.people import STYLES
from razor.reference.wording import Batches, tokenizer

Tick = Callable[[str, float, dict[str, float]], None]
Build = Callable[[Part, CLIPTokenizer, Batches, int, Told], Part]

#: What can be trained: the name of a shipped folder -> how its pipeline is made.
KINDS: Mapping[str, Build] = {
    "diffusion": diffusion.stable_diffusion,
    "diffusion3": diffusion.stable_diffusion_3,
}
RECORD_FILE = "record.json"
SAMPLING_STEPS, GUIDANCE = 20, 3.0


@dataclass(frozen=True)
class Effort:
    """How much is drawn, trained and looked at."""

    per_subject: int = 320
    judge: int = 700  # steps
    autoencoder: int = 700  # steps
    generator: int = 1800  # steps
    held_out: int = 30  # drawings of each subject that the judge is tried on
    judged: int = 8  # generated pictures of each subject in each style that the judge looks at


#: A transformer over patches learns more slowly than a U-Net of its size.
EFFORTS: Mapping[str, Effort] = {"diffusion": Effort(), "diffusion3": Effort(generator=3600)}


@dataclass(frozen=True)
class Judged:
    """Share of ``n`` pictures on which the judge sees what was asked for."""

    percent: float
    n: int


@dataclass(frozen=True)
class Record:
    """How a pipeline was trained, and what an independent judge sees in what it paints."""

    kind: str
    seed: int
    effort: Effort
    without: tuple[str, ...]
    parts_from: str | None  # digest of the folder that autoencoder and judge came from
    training_pictures: int
    judge_on_drawings: dict[str, Judged]
    painted: dict[str, Judged]
    seconds: float
    parameters: int
    libraries: dict[str, str]


@dataclass(frozen=True)
class _Parts:
    """What does not depend on the kind of generator."""

    judge: judges.Judge
    vae: Part
    data: Painted


def train(
    kind: str,
    out: Path,
    seed: int = 0,
    without: Sequence[str] = (),
    parts: Path | None = None,
    effort: Effort | None = None,
    tick: Tick | None = None,
) -> Record:
    """Train judge, autoencoder, text encoders and denoiser; write the pipeline whole or not at all.

    ``without`` leaves subjects or styles out of what the generator sees, for a gold pipeline; the
    judge is trained on everything. ``parts`` is a folder trained here before, whose autoencoder
    and judge are taken as they are. ``tick(phase, fraction, figures)`` hears of it. Raises
    `FolderError` when ``out`` is taken, `TrainingDataError` for a stranger in ``without``,
    `WeightsError` where ``parts`` holds no such parts.
    """
    if strangers := sorted(set(without) - {*SUBJECTS, *STYLES}):
        raise TrainingDataError(
            f"{len(strangers)} of those to leave out are not painted here; choose from SUBJECTS "
            "and STYLES of razor.reference.painted"
        )
    started, effort = time.monotonic(), effort or EFFORTS[kind]
    with whole_folder(out) as partial, torch.random.fork_rng(devices=[]):
        ready = _taken(parts, effort, without) if parts else _trained(seed, effort, without, tick)
        torch.manual_seed(seed)
        words = tokenizer()
        latents = autoencoder.encode(ready.vae, ready.data.pixels)
        batches = Batches(ready.data, latents, words, Random(f"razor {kind}|{seed}"))
        told = _of("generator", 0.0 if parts else 0.4, 1.0, tick)
        pipe = KINDS[kind](ready.vae, words, batches, effort.generator, told)
        pipe.to(dtype=torch.float16)
        pipe.save_pretrained(partial, safe_serialization=True)
        judges.save_judge(ready.judge, partial)
        # Measured as it will be read: in the precision of the folder.
        pipe, judge = load(partial), judges.load_judge(partial)
        record = Record(
            kind=kind,
            seed=seed,
            effort=effort,
            without=tuple(without),
            parts_from=checkpoint_digest(parts) if parts else None,
            training_pictures=len(ready.data),
            judge_on_drawings=_judge_drawings(judge, effort.held_out),
            painted=judged(pipe, judge, *known(without), effort.judged),
            seconds=round(time.monotonic() - started, 1),
            parameters=sum(
                p.numel()
                for part in pipe.components.values()
                if isinstance(part, torch.nn.Module)
                for p in part.parameters()
            ),
            libraries={
                name: importlib.metadata.version(name)
                for name in ("torch", "diffusers", "transformers", "pillow")
            },
        )
        words_of_it = json.dumps(asdict(record), indent=2) + "\n"
        (partial / RECORD_FILE).write_text(words_of_it, encoding="utf-8")
    return record


def known(without: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The subjects and the styles that are left."""
    subjects = tuple(name for name in SUBJECTS if name not in without)
    return subjects, tuple(style for style in STYLES if style not in without)


def _trained(seed: int, effort: Effort, without: Sequence[str], tick: Tick | None) -> _Parts:
    everything = painted.draw_set(SUBJECTS, effort.per_subject, 0)
    judge = judges.train_judge(everything, seed, effort.judge, _of("judge", 0.0, 0.05, tick))
    data = _without(everything, without)
    torch.manual_seed(seed)
    vae = autoencoder.autoencoder()
    autoencoder.fit(vae, data.pixels, effort.autoencoder, _of("autoencoder", 0.05, 0.4, tick))
    return _Parts(judge, vae, data)


def _taken(parts: Path, effort: Effort, without: Sequence[str]) -> _Parts:
    judge = judges.load_judge(parts)
    vae = load(parts).vae.requires_grad_(False)
    return _Parts(judge, vae, _without(painted.draw_set(SUBJECTS, effort.per_subject, 0), without))


def _without(everything: Painted, without: Sequence[str]) -> Painted:
    pairs = zip(everything.subjects.tolist(), everything.styles.tolist(), strict=True)
    return everything.take(
        [k for k, (s, t) in enumerate(pairs) if not {SUBJECTS[s], STYLES[t]} & set(without)]
    )


def load(folder: Path) -> Part:
    """The pipeline of a folder in float32, silent; no network access.

    diffusers wants to be told of every part that a Stable Diffusion 3 was saved without.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    absent = [name for name, value in index.items() if value == [None, None]]
    pipe = PARTS.DiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, **dict.fromkeys(absent)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def paint(pipe: Part, prompts: Sequence[str], seeds: Sequence[int], batch: int = 64) -> Tensor:
    """Pictures uint8 (n, 3, 32, 32), each by its own seed, so that no batch decides a picture."""
    parts = []
    for start in range(0, len(prompts), batch):
        drawn = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
        found = pipe(
            list(prompts[start : start + batch]),
            height=SIZE,
            width=SIZE,
            num_inference_steps=SAMPLING_STEPS,
            guidance_scale=GUIDANCE,
            generator=drawn,
            output_type="pt",
        ).images
        parts.append((found * 255).round().clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


def judged(
    pipe: Part,
    judge: judges.Judge,
    subjects: Sequence[str],
    styles: Sequence[str],
    each: int,
    first_seed: int = 0,
) -> dict[str, Judged]:
    """What the judge sees in ``each`` pictures of every subject in every style."""
    asked = [(s, t) for s in subjects for t in styles for _ in range(each)]
    pictures = paint(
        pipe,
        [painted.prompt(subject, style) for subject, style in asked],
        range(first_seed, first_seed + len(asked)),
    )
    seen = judge.read(pictures)
    who = torch.tensor([SUBJECTS.index(subject) for subject, _ in asked])
    how = torch.tensor([STYLES.index(style) for _, style in asked])
    person = torch.tensor([subject in PEOPLE for subject, _ in asked])
    right = seen["name"] == who
    return {
        "person": _share(right[person]),
        "object": _share(right[~person]),
        "style": _share(seen["style"] == how),
    }


def _judge_drawings(judge: judges.Judge, each: int) -> dict[str, Judged]:
    """On drawings that nothing was trained on."""
    fresh = painted.draw_set(SUBJECTS, each, painted.FIRST_HELD_OUT)
    seen = judge.read(fresh.pixels)
    return {
        "name": _share(seen["name"] == fresh.subjects),
        "style": _share(seen["style"] == fresh.styles),
    }


def _share(right: Tensor) -> Judged:
    return Judged(round(100 * right.float().mean().item(), 2), len(right))


def _of(phase: str, start: float, stop: float, tick: Tick | None) -> Told:
    """Tells of one phase's progress as its part of the whole."""

    def told(fraction: float, figures: dict[str, float]) -> None:
        if tick is not None:
            tick(phase, start + (stop - start) * fraction, figures)

    return told
