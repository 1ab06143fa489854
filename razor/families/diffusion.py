"""The diffusion family: Stable Diffusion 1 to 3 pipelines, behind one face."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from api_schemas.families import Family
from razor import heads, room, seeding
from razor.errors import MethodUnsupported
from razor.families import denoiser, diffusers_layout, noise
from razor.families.diffusers_layout import TEXT_ENCODERS, Pipeline
from razor.families.network import tensors_on_disk
from razor.memory import Memory, Passes
from razor.pictures import Sizing
from razor.protocols import Judge, Region, Unit

#: Denoising steps and guidance of a picture that is painted to be looked at.
SAMPLING_STEPS, GUIDANCE = 20, 3.0
PICTURES = 64  # painted at once, at most this many latent values over all of them
LATENT_VALUES = 2**18
#: Rows of one forward pass without a gradient.
CHUNK = 128
#: Of the CLIP text encoders.
TOKENIZERS = ("tokenizer", "tokenizer_2")
#: A denoiser of more weights than this computes activations again instead of keeping them.
LARGE = 10**8


@dataclass(frozen=True)
class Lesson:
    """Noisy latents, what is said beside them, and what the denoiser should answer."""

    latents: Tensor  # (n, c, h, w), noisy
    steps: Tensor  # (n,)
    prompts: tuple[str, ...]
    answers: Tensor  # (n, c, h, w)
    weights: Tensor  # (n,) of each squared error

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> Lesson:
        """Some of it."""
        at = list(rows)
        return Lesson(
            self.latents[at],
            self.steps[at],
            tuple(self.prompts[i] for i in at),
            self.answers[at],
            self.weights[at],
        )


@dataclass(frozen=True)
class RetainBatch:
    """A lesson on retained pictures, and what the frozen model answered to it."""

    lesson: Lesson
    frozen: Tensor  # (n, c, h, w), with the prompts
    frozen_empty: Tensor  # (n, c, h, w), with an empty prompt
    scales: Tensor  # (n,): mean square of what a prompt changes in an answer


@dataclass
class Diffusion:
    """A picture generator that can be edited and measured. Capability: paints pictures."""

    pipeline: Pipeline
    noise: noise.Noise
    folder: Path
    device: torch.device
    judge: Judge
    passes: Passes = field(default_factory=Passes)
    memory: Memory = field(default_factory=Memory)

    name = Family.DIFFUSION

    @property
    def model(self) -> nn.ModuleDict:
        """Text encoders and denoiser, in evaluation mode."""
        return self.pipeline.model

    @property
    def sizing(self) -> Sizing:
        """Pictures as wide as those that it paints."""
        pipe: Any = self.pipeline.pipe
        side = self.latent_shape()[-1] * int(pipe.vae_scale_factor)
        return Sizing(side, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        config = getattr(self.pipeline.pipe, self.pipeline.denoiser).config
        side = int(config.sample_size)
        return int(config.in_channels), side, side

    def units(self) -> tuple[Unit, ...]:
        """The matrices and heads of every layer of the text encoders and of the denoiser."""
        return tuple(
            replace(unit, tower="text" if unit.tower in TEXT_ENCODERS else "denoiser")
            for layer in self.pipeline.layers
            for unit in heads.units(layer)
        )

    def moving(self, units: Sequence[Unit]) -> AbstractContextManager[None]:
        """Nothing is kept from below these units."""
        return nullcontext()

    def place(self, parameter: str) -> tuple[str, str]:
        """The file inside the folder, and the tensor's name in it."""
        return self.pipeline.on_disk[parameter]

    def dtypes(self) -> dict[str, str]:
        """The type on disk of every editable parameter."""
        stored = {name: tensors_on_disk(self.folder / name) for name in self.model}
        found = {}
        for parameter, (file, tensor) in self.pipeline.on_disk.items():
            found[parameter] = stored[file.split("/", 1)[0]][tensor][1].dtype
        return found

    def text_attention(self) -> list[Region]:
        """Cross-attention of a U-Net; of an MMDiT what joint attention does to the text's side."""
        return [
            region
            for layer in self.pipeline.layers
            if layer.tower == self.pipeline.denoiser
            for attention in layer.attentions
            for part, region in {**attention.rows, **attention.columns}.items()
            if attention.name == "cross" or part.startswith("added")
        ]

    def keys_and_values(self) -> list[Region]:
        """Of cross-attention. Raises MethodUnsupported for an MMDiT."""
        found = [
            region
            for layer in self.pipeline.layers
            for attention in layer.attentions
            for part, region in attention.rows.items()
            if attention.name == "cross" and part in {"k", "v"}
        ]
        if not found:
            raise MethodUnsupported
        return found

    @torch.no_grad()
    def text_states(self, text: str, beside: str) -> tuple[Tensor, Tensor]:
        """States (n, width) of two texts from the last word of each on, equally many."""
        states = denoiser.condition(self.pipeline, [text, beside]).states
        pipe: Any = self.pipeline.pipe
        length = states.shape[1]
        # The last word stands before the end sign.
        last = [max(0, len(pipe.tokenizer(each).input_ids) - 2) for each in (text, beside)]
        count = length - min(length - 1, max(last))
        first, second = (states[row, at : at + count] for row, at in enumerate(last))
        return first, second

    def vectors_of(self, text: str) -> list[tuple[str, list[int]]]:
        """Of each CLIP text encoder the table of word vectors, and the text's rows in it."""
        pipe: Any = self.pipeline.pipe
        names = {id(p): name for name, p in self.model.named_parameters()}
        found = []
        for encoder, tokenizer in zip(TEXT_ENCODERS[:2], TOKENIZERS, strict=True):
            if encoder in self.model:
                network: Any = self.model[encoder]
                words = getattr(pipe, tokenizer)(text, add_special_tokens=False).input_ids
                found.append((names[id(network.get_input_embeddings().weight)], list(words)))
        return found

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:  # (n, width)
        """What the text encoders say of each text, averaged over its tokens."""
        parts = [
            denoiser.condition(self.pipeline, texts[i : i + CHUNK]).states.mean(dim=1)
            for i in range(0, len(texts), CHUNK)
        ]
        return torch.cat(parts)

    def forget_loss(self, lesson: Lesson) -> Tensor:
        """Minus the distance of the answers from those that the lesson wants instead."""
        return -self.lesson_loss(lesson)

    def lesson_loss(self, lesson: Lesson) -> Tensor:
        """Mean weighted squared distance of the answers from those wanted."""
        self.passes.backward += 1
        said = self.predict(lesson.latents, lesson.steps, lesson.prompts)
        return (lesson.weights * _mean_square(said - lesson.answers)).mean()

    def naming_loss(self, lesson: Lesson) -> Tensor:
        """The same: what a picture is called shows in how it is cleaned of noise."""
        return self.lesson_loss(lesson)

    def retain_loss(self, batch: RetainBatch) -> Tensor:
        """The denoising loss that the model was trained with."""
        return self.lesson_loss(batch.lesson)

    def mismatch_loss(self, batch: RetainBatch) -> Tensor:
        """Drift of the guided answers from the frozen model's."""
        return self.kept_losses(batch)[1]

    def kept_losses(self, batch: RetainBatch) -> tuple[Tensor, Tensor]:
        """Denoising loss and drift of (1 + w) eps_c - w eps_null, from one forward pass.

        The drift is a share of what the prompt itself changes in the frozen model's answer.
        """
        self.passes.backward += 1
        lesson = batch.lesson
        said = self.predict(
            torch.cat([lesson.latents, lesson.latents]),
            torch.cat([lesson.steps, lesson.steps]),
            (*lesson.prompts, *("",) * len(lesson)),
        )
        prompted, empty = said.chunk(2)
        retain = (lesson.weights * _mean_square(prompted - lesson.answers)).mean()
        moved = (1 + GUIDANCE) * (prompted - batch.frozen) - GUIDANCE * (empty - batch.frozen_empty)
        return retain, (_mean_square(moved) / batch.scales).mean()

    def predict(
        self,
        latents: Tensor,  # (n, c, h, w), noisy
        steps: Tensor,  # (n,)
        prompts: Sequence[str],
    ) -> Tensor:  # (n, c, h, w)
        """What the denoiser answers; gradients flow. Equal prompts are encoded once."""
        self.passes.forward += 1
        given = self._conditions(prompts)

        def said(rows: range) -> Tensor:
            part = given if len(rows) == len(prompts) else given.take(list(rows))
            at = slice(rows.start, rows.stop)
            return denoiser.predict(self.pipeline, latents[at], steps[at], part)

        return room.of(self.model).through(len(prompts), said)

    @torch.no_grad()
    def answers(self, latents: Tensor, steps: Tensor, prompts: Sequence[str]) -> Tensor:
        """``predict`` without a gradient, in parts that fit."""
        parts = [
            self.predict(
                latents[i : i + CHUNK], steps[i : i + CHUNK], tuple(prompts[i : i + CHUNK])
            )
            for i in range(0, len(prompts), CHUNK)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:  # (n, c, h, w)
        """Latents of pictures (n, 3, size, size) in 0..255."""
        return denoiser.encode(self.pipeline, pixels)

    @torch.no_grad()
    def paint(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        latents: bool = False,
    ) -> Tensor:
        """Pictures uint8 (n, 3, size, size), or their latents; each by its own seed alone."""
        pipe: Any = self.pipeline.pipe
        at_once = max(1, min(PICTURES, LATENT_VALUES // torch.Size(self.latent_shape()).numel()))

        def painted(rows: range) -> Tensor:
            drawn = [seeding.generator(seeds[row], "picture") for row in rows]
            found = pipe(
                [prompts[row] for row in rows],
                height=self.sizing.size,
                width=self.sizing.size,
                num_inference_steps=SAMPLING_STEPS,
                guidance_scale=GUIDANCE,
                generator=drawn,
                output_type="latent" if latents else "pt",
            ).images
            self.passes.forward += SAMPLING_STEPS
            if not latents:
                found = (found * 255).round().clamp(0, 255).to(torch.uint8).cpu()
            return cast(Tensor, found)

        return torch.cat(room.of(self.model).parts(len(prompts), at_once, painted))

    def _conditions(self, prompts: Sequence[str]) -> denoiser.Conditioning:
        place = {text: index for index, text in enumerate(dict.fromkeys(prompts))}
        given = denoiser.condition(self.pipeline, list(place))
        return given.take([place[text] for text in prompts])


def _mean_square(difference: Tensor) -> Tensor:  # (n, c, h, w) -> (n,)
    return difference.square().flatten(1).mean(dim=1)


def load(folder: Path, device: str, judge: Judge) -> Diffusion:
    """Loads a pipeline folder of one of the supported classes. Raises CheckpointInvalid."""
    pipeline = diffusers_layout.load(folder)
    levels = noise.read(pipeline.pipe.scheduler)
    pipeline.pipe.to(device)
    network: Any = pipeline.model[pipeline.denoiser]
    if sum(p.numel() for p in network.parameters()) > LARGE:
        network.enable_gradient_checkpointing()
    if pipeline.denoiser == "unet":
        network.to(memory_format=torch.channels_last)  # a quarter faster on a processor
    return Diffusion(pipeline, levels, folder, torch.device(device), judge)
