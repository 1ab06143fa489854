"""The reference picture generator: a tiny Stable Diffusion that paints drawn people and objects.

The checkpoint folder is one that diffusers alone loads:

    pipe = StableDiffusionPipeline.from_pretrained("FOLDER")
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from razor.reference import judge as judges
from razor.reference import painted
from razor.reference.clip import has_native_bfloat16
from razor.reference.errors import TrainingDataError
from razor.reference.folders import whole_folder
from razor.reference.painted import PEOPLE, SIZE, SUBJECTS, Painted
from razor.reference.people import STYLES

# The parts of a pipeline come without types.
Part = Any
PARTS: Part = diffusers
Told = Callable[[float, dict[str, float]], None]
Tick = Callable[[str, float, dict[str, float]], None]

RECORD_FILE = "record.json"
CONTEXT, VOCABULARY = 24, 700
#: About when each phase of a training begins and ends.
PHASES = {"judge": (0.0, 0.1), "autoencoder": (0.1, 0.35), "generator": (0.35, 1.0)}
#: Picture -> latent of a quarter of its side, four channels, as in Stable Diffusion.
LATENT = SIZE // 4
AUTOENCODER_BATCH, AUTOENCODER_RATE = 48, 1.5e-3
#: Weight of the divergence from a unit normal (arXiv 2112.10752, section 3.1, keeps it this small).
DIVERGENCE = 1e-6
BATCH, LEARNING_RATE, WARM_UP = 64, 1e-3, 60
#: The shipped weights are an average over steps, which paints far cleaner than the last step.
AVERAGE = 0.01
#: Easy noise levels are not learnt at the cost of hard ones (arXiv 2303.09556, gamma of 5).
SNR_LIMIT = 5.0
SAMPLING_STEPS, GUIDANCE = 20, 3.0


@dataclass(frozen=True)
class Effort:
    """How much is drawn, trained and looked at; the default is what the shipped pipeline took."""

    per_subject: int = 320
    judge: int = 700  # steps
    autoencoder: int = 700  # steps
    generator: int = 1800  # steps
    held_out: int = 30  # drawings of each subject that the judge is tried on
    judged: int = 8  # generated pictures of each subject in each style that the judge looks at


@dataclass(frozen=True)
class Judged:
    """Share of ``n`` pictures on which the judge sees what was asked for."""

    percent: float
    n: int


@dataclass(frozen=True)
class Record:
    """How a pipeline was trained, and what an independent judge sees in what it paints."""

    seed: int
    effort: Effort
    subjects: tuple[str, ...]
    without: tuple[str, ...]
    training_pictures: int
    judge_on_drawings: dict[str, Judged]
    painted: dict[str, Judged]
    seconds: float
    parameters: int
    libraries: dict[str, str]


def tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer class over a small vocabulary made of every caption that can occur."""
    blank = CLIPTokenizer()
    small = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    small.normalizer = blank.backend_tokenizer.normalizer
    small.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    # Signs as words of their own: every end of a word can be spelt, also of names never seen.
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    small.train_from_iterator([*painted.every_text(), *letters], trainer)
    made = json.loads(small.to_str())["model"]
    merges: Any = [tuple(pair) for pair in made["merges"]]
    return CLIPTokenizer(vocab=made["vocab"], merges=merges, model_max_length=CONTEXT)


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width 128, from nothing."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            projection_dim=128,
            hidden_act="gelu",
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def unet() -> Part:
    """Two stages of convolutions with cross-attention, as in Stable Diffusion but narrow."""
    return PARTS.UNet2DConditionModel(
        sample_size=LATENT,
        block_out_channels=(80, 144),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def autoencoder() -> Part:
    """Three stages, so two halvings of the side."""
    return PARTS.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(40, 80, 80),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def scheduler() -> Part:
    """Stable Diffusion's noise levels. Clamping samples would wash out latents' colours."""
    return PARTS.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train_diffusion(
    out: Path,
    seed: int = 0,
    without: Sequence[str] = (),
    effort: Effort | None = None,
    tick: Tick | None = None,
) -> Record:
    """Train judge, autoencoder, text encoder and U-Net; write the pipeline whole or not at all.

    ``without`` leaves subjects out of what the generator sees, for a gold pipeline; the judge is
    trained on everybody. ``tick(phase, fraction, figures)`` hears of it. Raises `FolderError` when
    ``out`` is taken, `TrainingDataError` for a stranger in ``without``.
    """
    if strangers := sorted(set(without) - set(SUBJECTS)):
        raise TrainingDataError(
            f"{len(strangers)} of the subjects to leave out are not painted here; choose from "
            "razor.reference.painted.SUBJECTS"
        )
    started, effort = time.monotonic(), effort or Effort()
    with whole_folder(out) as partial, torch.random.fork_rng(devices=[]):
        everybody = painted.draw_set(SUBJECTS, effort.per_subject, 0)
        judge = judges.train_judge(everybody, seed, effort.judge, _of("judge", tick))
        kept = [k for k, s in enumerate(everybody.subjects.tolist()) if SUBJECTS[s] not in without]
        data = Painted(
            everybody.pixels[kept],
            everybody.subjects[kept],
            everybody.styles[kept],
            tuple(everybody.scenes[k] for k in kept),
        )
        torch.manual_seed(seed)
        vae = autoencoder()
        fit_autoencoder(vae, data.pixels, effort.autoencoder, _of("autoencoder", tick))
        words = tokenizer()
        text, network = text_encoder(words), unet()
        latents = encode(vae, data.pixels)
        batches = Batches(data, latents, words, Random(f"razor diffusion|{seed}"))
        fit_unet(text, network, batches, effort.generator, _of("generator", tick))
        pipe = PARTS.StableDiffusionPipeline(
            vae, text, words, network, scheduler(), None, None, requires_safety_checker=False
        )
        pipe.to(dtype=torch.float16)
        pipe.save_pretrained(partial, safe_serialization=True)
        judges.save_judge(judge, partial)
        pipe, judge = load(partial), judges.load_judge(partial)
        subjects = tuple(name for name in SUBJECTS if name not in without)
        record = Record(
            seed=seed,
            effort=effort,
            subjects=subjects,
            without=tuple(without),
            training_pictures=len(data),
            judge_on_drawings=_judge_drawings(judge, effort.held_out),
            painted=judged(pipe, judge, subjects, effort.judged),
            seconds=round(time.monotonic() - started, 1),
            parameters=sum(p.numel() for part in (vae, text, network) for p in part.parameters()),
            libraries={
                name: importlib.metadata.version(name)
                for name in ("torch", "diffusers", "transformers", "pillow")
            },
        )
        words_of_it = json.dumps(asdict(record), indent=2) + "\n"
        (partial / RECORD_FILE).write_text(words_of_it, encoding="utf-8")
    return record


def load(folder: Path) -> Part:
    """The pipeline of a folder in float32, silent; no network access."""
    pipe = PARTS.StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def fit_autoencoder(vae: Part, pixels: Tensor, steps: int, tick: Told) -> None:
    """Trains the autoencoder in place; afterwards its latents have unit standard deviation."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=AUTOENCODER_RATE, weight_decay=1e-3)
    for step in range(steps):
        _set_rate(optimizer, AUTOENCODER_RATE, step, steps)
        rows = torch.randint(len(pixels), (AUTOENCODER_BATCH,))
        pictures = pixels[rows].float() / 127.5 - 1
        with _half():
            found = vae.encode(pictures).latent_dist
            again = vae.decode(found.sample()).sample
        loss = F.l1_loss(again.float(), pictures) + DIVERGENCE * found.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        tick(step / steps, {"loss": loss.item()})
    vae.eval().requires_grad_(False)
    spread = encode(vae, pixels[:: max(1, len(pixels) // 1000)]).std()
    vae.register_to_config(scaling_factor=vae.config.scaling_factor / float(spread))


@torch.no_grad()
def encode(vae: Part, pixels: Tensor) -> Tensor:
    """Scaled latents (n, 4, 8, 8) of pixels (n, 3, 32, 32) in 0..255: the means, undrawn."""
    parts = [
        vae.encode(part.float() / 127.5 - 1).latent_dist.mean for part in torch.split(pixels, 256)
    ]
    scaled: Tensor = torch.cat(parts) * vae.config.scaling_factor
    return scaled


class Batches:
    """Latents with the tokens of a caption that is true of them, drawn anew each time."""

    def __init__(self, data: Painted, latents: Tensor, words: CLIPTokenizer, rng: Random) -> None:
        self.data, self.latents, self.rng = data, latents, rng
        self.words = words
        self._tokens: dict[str, Tensor] = {}

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Latents (size, 4, 8, 8) and token ids (size, context)."""
        rows = torch.randint(len(self.data), (size,)).tolist()
        texts = [
            painted.caption(
                SUBJECTS[int(self.data.subjects[row])],
                STYLES[int(self.data.styles[row])],
                self.data.scenes[row],
                self.rng,
            )
            for row in rows
        ]
        return self.latents[rows], torch.stack([self._ids(text) for text in texts])

    def _ids(self, text: str) -> Tensor:
        if text not in self._tokens:
            self._tokens[text] = tokens(self.words, [text])[0]
        return self._tokens[text]


def tokens(words: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token ids (n, context), cut and padded as the pipeline does."""
    found = words(
        list(texts),
        padding="max_length",
        max_length=words.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    ids: Tensor = found.input_ids
    return ids


def fit_unet(text: CLIPTextModel, network: Part, batches: Batches, steps: int, tick: Told) -> None:
    """Trains text encoder and U-Net together; leaves the average over steps in both."""
    noise = scheduler()
    levels = noise.alphas_cumprod
    snr = levels / (1 - levels)
    weights = snr.clamp(max=SNR_LIMIT) / snr  # of an epsilon target
    modules = nn.ModuleList([text, network])
    average = {name: p.detach().clone() for name, p in modules.named_parameters()}
    optimizer = torch.optim.AdamW(modules.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    modules.train()
    network.to(memory_format=torch.channels_last)
    for step in range(steps):
        _set_rate(optimizer, LEARNING_RATE, step, steps)
        latents, ids = batches.draw(BATCH)
        times = torch.randint(len(levels), (BATCH,))
        drawn = torch.randn_like(latents)
        noisy = noise.add_noise(latents, drawn, times)
        with _half():
            states = text(ids).last_hidden_state
            guess = network(noisy, times, states).sample
        each = (guess.float() - drawn).square().mean(dim=(1, 2, 3))
        loss = (weights[times] * each).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        share = max(AVERAGE, 1 / (step + 1))
        with torch.no_grad():
            for name, parameter in modules.named_parameters():
                average[name].lerp_(parameter, share)
        tick(step / steps, {"loss": loss.item()})
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.copy_(average[name])
    modules.eval().requires_grad_(False)


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
    pipe: Part, judge: judges.Judge, subjects: Sequence[str], each: int, first_seed: int = 0
) -> dict[str, Judged]:
    """What the judge sees in ``each`` pictures of every subject in every style."""
    asked = [(s, t) for s in subjects for t in STYLES for _ in range(each)]
    pictures = paint(
        pipe,
        [painted.prompt(subject, style) for subject, style in asked],
        range(first_seed, first_seed + len(asked)),
    )
    seen = judge.read(pictures)
    who = torch.tensor([SUBJECTS.index(subject) for subject, _ in asked])
    how = torch.tensor([STYLES.index(style) for _, style in asked])
    person = torch.tensor([subject in PEOPLE for subject, _ in asked])
    right = seen["subject"] == who
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
        "subject": _share(seen["subject"] == fresh.subjects),
        "style": _share(seen["style"] == fresh.styles),
    }


def _share(right: Tensor) -> Judged:
    return Judged(round(100 * right.float().mean().item(), 2), len(right))


def _half() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=has_native_bfloat16())


def _set_rate(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Warm-up, then a cosine down to nothing."""
    warm_up = min(WARM_UP, max(1, steps // 5))
    if step < warm_up:
        share = (step + 1) / warm_up
    else:
        share = 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
    for group in optimizer.param_groups:
        group["lr"] = rate * share


def _of(phase: str, tick: Tick | None) -> Told:
    """Tells of one phase's progress as its part of the whole."""
    start, stop = PHASES[phase]

    def told(fraction: float, figures: dict[str, float]) -> None:
        if tick is not None:
            tick(phase, start + (stop - start) * fraction, figures)

    return told
