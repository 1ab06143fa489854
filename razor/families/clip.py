"""The CLIP family: open_clip models and Hugging Face ``CLIPModel``, behind one face."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from api_schemas.families import Family
from razor import heads, objectives, room
from razor.errors import CheckpointInvalid
from razor.families import hf_clip_layout, open_clip_layout
from razor.families.known import KnownFeatures
from razor.families.network import Network, tensors_on_disk
from razor.families.resume import Resumption
from razor.gradients import parameters_of
from razor.material import Labelled, Origin
from razor.memory import Memory, Passes
from razor.pictures import Sizing
from razor.protocols import Unit

CHUNK = 256  # pictures or texts per forward pass when no gradient is wanted
#: From so many weights on, so many pictures at once hold what their gradient needs, and the others
#: are computed again on the way back: a third more time, a tenth of the memory.
LARGE, GRADIENT_PICTURES = 50_000_000, 16


@dataclass(frozen=True)
class KeptAway:
    """An earlier concept whose pictures must come no nearer to its name than they are."""

    pixels: Tensor  # (n, 3, size, size), 0..255
    texts: tuple[str, ...]
    features: Tensor  # (n, d), unit length: of the frozen model
    limits: Tensor  # (n,) cosines


@dataclass(frozen=True)
class ForgetBatch:
    """The concept's pictures and the prompts that name it."""

    pixels: Tensor  # (n, 3, size, size), 0..255
    texts: tuple[str, ...]
    features: Callable[[], Tensor]  # (m, d), unit length: what stands for pictures not looked at
    states: dict[str, int]  # tower -> Clip.tower_state of the frozen model
    kept_away: tuple[KeptAway, ...] = ()


@dataclass(frozen=True)
class NamingBatch:
    """Pictures, and which of several labels each has."""

    pixels: Tensor  # (n, 3, size, size), 0..255
    answers: Tensor  # (n,) index of a label
    prompts: tuple[str, ...]  # labels x templates, label by label
    labels: int


@dataclass(frozen=True)
class Frozen:
    """Features of the model as it was when the run began, and the state of its towers then."""

    images: Tensor  # (n, d), unit length
    texts: Tensor  # (n, d), unit length
    states: dict[str, int]  # tower -> Clip.tower_state

    def take(self, positions: list[int]) -> Frozen:
        """The features of those pairs only."""
        return Frozen(self.images[positions], self.texts[positions], self.states)


@dataclass(frozen=True)
class RetainBatch:
    """Retained pairs, and what the frozen model made of them."""

    pixels: Tensor  # (n, 3, size, size), 0..255
    captions: tuple[str, ...]
    frozen: Frozen


@dataclass
class Clip:
    """A CLIP model that can be edited and measured. Capability: embeds pictures and texts."""

    network: Network
    folder: Path
    device: torch.device
    passes: Passes = field(default_factory=Passes)
    memory: Memory = field(default_factory=Memory)
    _tokens: dict[str, Tensor] = field(default_factory=dict)

    name = Family.CLIP

    def __post_init__(self) -> None:
        network = self.network
        self.known = KnownFeatures()
        # Pixels of a part of the retain set -> where they stand, and their tower's state then.
        self._parts: MutableMapping[Tensor, tuple[Origin, int]] = WeakIdKeyDictionary()
        weights = sum(parameter.numel() for parameter in network.model.parameters())
        self._at_once = GRADIENT_PICTURES if weights >= LARGE else None
        self.resumption = Resumption(network.model, network.blocks, network.towers)

    @property
    def model(self) -> nn.Module:
        """The network, in evaluation mode."""
        return self.network.model

    @property
    def size(self) -> int:
        """Side of the pictures that the model takes, in pixels."""
        return self.network.sizing.size

    def units(self) -> tuple[Unit, ...]:
        """The matrices and heads of every transformer layer of both towers."""
        return tuple(unit for layer in self.network.layers for unit in heads.units(layer))

    def forget_loss(self, batch: ForgetBatch) -> Tensor:
        """Mean 1 - cos between the concept's pictures and the mean embedding of its prompts.

        Less what earlier concepts came nearer to their names: moving along +gradient forgets all.
        """
        self.passes.backward += 1
        stands = self._stands("image", batch.states)
        images = batch.features() if stands else self._images(batch.pixels)
        loss = objectives.cosine_forget(images, self._name(batch.texts))
        for away in batch.kept_away:
            images = away.features if stands else self._images(away.pixels)
            nearer = F.relu(images @ self._name(away.texts)[0] - away.limits)
            loss = loss - nearer.mean()
        return loss

    def _name(self, texts: Sequence[str]) -> Tensor:  # (1, d), unit length
        return F.normalize(self._texts(texts).mean(dim=0, keepdim=True), dim=-1)

    def retain_loss(self, batch: RetainBatch) -> Tensor:
        """Symmetric InfoNCE over the batch."""
        return self.kept_losses(batch)[0]

    def mismatch_loss(self, batch: RetainBatch) -> Tensor:
        """Drift of the batch's similarities from the frozen model's."""
        return self.kept_losses(batch)[1]

    def kept_losses(self, batch: RetainBatch) -> tuple[Tensor, Tensor]:
        """Retain and mismatch loss from one forward pass."""
        self.passes.backward += 1
        images, texts = self._pairs(batch)
        scale = self.network.logit_scale.exp()
        frozen = batch.frozen.images @ batch.frozen.texts.T
        return (
            objectives.symmetric_infonce(images, texts, scale, batch.captions),
            objectives.similarity_drift(images, texts, frozen),
        )

    def naming_loss(self, batch: NamingBatch) -> Tensor:
        """Cross-entropy of zero-shot classification over the batch's labels."""
        self.passes.backward += 1
        texts = self._texts(batch.prompts)
        classes = F.normalize(texts.view(batch.labels, -1, texts.shape[1]).mean(dim=1), dim=-1)
        logits = self.network.logit_scale.exp() * self._images(batch.pixels) @ classes.T
        return F.cross_entropy(logits, batch.answers.to(logits.device))

    def moving(self, units: Sequence[Unit]) -> AbstractContextManager[None]:
        """Inside, only these units are written: what lies below them is computed once."""
        lowest: dict[str, int] = {}
        for unit in units:
            lowest[unit.tower] = min(unit.layer, lowest.get(unit.tower, unit.layer))
        return self.resumption.moving(lowest)

    @property
    def sizing(self) -> Sizing:
        """How the model wants its pictures."""
        return self.network.sizing

    def place(self, parameter: str) -> tuple[str, str]:
        """Both libraries use the same names in memory and on disk for CLIP."""
        return tensors_on_disk(self.folder)[parameter][0], parameter

    def dtypes(self) -> dict[str, str]:
        """The type on disk of every editable parameter."""
        on_disk = tensors_on_disk(self.folder)
        return {name: on_disk[name][1].dtype for name in parameters_of(self.units())}

    @torch.no_grad()
    def embed_images(
        self,
        pixels: Tensor,  # (n, 3, size, size), 0..255
    ) -> Tensor:
        """Unit-length features of the pictures, (n, d), float32."""
        state = self.tower_state("image")
        found = self._parts.get(pixels)
        if found is not None and found[1] == state:
            return self._embed_retained(found[0], state)[list(found[0].rows)]
        return self.known.pictures(pixels, state, lambda: self._embed_parts(pixels))

    def _embed_retained(self, origin: Origin, state: int) -> Tensor:  # (m, d), unit length
        named = f"retained pictures {origin.digest}"
        return self.known.pictures(
            origin.pixels,
            state,
            lambda: self.memory.lasting(named, lambda: self._embed_parts(origin.pixels)),
        )

    def _embed_parts(self, pixels: Tensor) -> Tensor:  # (n, d), unit length
        parts = torch.split(pixels, CHUNK)
        return torch.cat([self._images(part, (k, pixels)) for k, part in enumerate(parts)])

    def retain(self, selections: Sequence[Labelled]) -> None:
        """From now on, and while their tower stands, these are looked at with all of their set.

        So whoever is to be forgotten next, only pictures that were never looked at have to be. The
        model is as it was loaded. What a picture's features are does not depend on what is known.
        """
        state = self.tower_state("image")
        for each in selections:
            if each.origin is not None:
                self._parts[each.pixels] = each.origin, state

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit-length features of the texts, (n, d), float32; equal texts are encoded once."""
        unique = list(dict.fromkeys(texts))

        def made() -> Tensor:
            starts = range(0, len(unique), CHUNK)
            return torch.cat([self._texts(unique[i : i + CHUNK], kept=True) for i in starts])

        found = self.known.texts(unique, self.tower_state("text"), made)
        place = {text: index for index, text in enumerate(unique)}
        return found[[place[text] for text in texts]]

    @torch.no_grad()
    def logit_scale(self) -> float:
        """The factor from cosine to logit."""
        return float(self.network.logit_scale.exp())

    def tower_state(self, tower: str) -> int:
        """Changes whenever a parameter of the tower is written in place; equal = untouched."""
        parameters = dict(self.model.named_parameters())
        return sum(parameters[name]._version for name in self.network.towers[tower])

    def _pairs(self, batch: RetainBatch) -> tuple[Tensor, Tensor]:
        """Features of both sides; those of a tower that stands as frozen are not made again."""
        images = (
            batch.frozen.images
            if self._stands("image", batch.frozen.states)
            else self._images(batch.pixels)
        )
        texts = (
            batch.frozen.texts
            if self._stands("text", batch.frozen.states)
            else self._texts(batch.captions)
        )
        return images, texts

    def _stands(self, tower: str, states: Mapping[str, int]) -> bool:
        """Whether a tower is unchanged and no gradient of it is wanted."""
        parameters = dict(self.model.named_parameters())
        trained = any(parameters[name].requires_grad for name in self.network.towers[tower])
        return not trained and self.tower_state(tower) == states[tower]

    def _images(self, pixels: Tensor, of: tuple[int, Tensor] | None = None) -> Tensor:
        """``of``: these are that part of pixels that will come again; without a gradient only."""
        self.passes.forward += 1
        inputs = self.network.sizing.normalise(pixels.to(self.device))
        encode = self.network.encode_images
        if of is None:
            found = self._through(encode, inputs, self._at_once)
        else:
            found = self._again("image", of, inputs)
        return F.normalize(found, dim=-1)

    def _texts(self, texts: Sequence[str], *, kept: bool = False) -> Tensor:
        """``kept``: the same texts will come again; without a gradient only."""
        self.passes.forward += 1
        unseen = [text for text in dict.fromkeys(texts) if text not in self._tokens]
        if unseen:
            self._tokens.update(zip(unseen, self.network.tokenize(unseen), strict=True))
        place = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        tokens = torch.stack([self._tokens[text] for text in place]).to(self.device)
        encode = self.network.encode_tokens
        found = (
            self._again("text", (tuple(place), None), tokens)
            if kept
            else self._through(encode, tokens)
        )
        embedded = F.normalize(found, dim=-1)
        return embedded if len(place) == len(texts) else embedded[[place[text] for text in texts]]

    def _through(
        self, encode: Callable[[Tensor], Tensor], inputs: Tensor, at_once: int | None = None
    ) -> Tensor:
        return room.of(self.model).through(
            len(inputs), lambda rows: encode(inputs[rows.start : rows.stop]).float(), at_once
        )

    def _again(self, tower: str, named: tuple[Hashable, object], inputs: Tensor) -> Tensor:
        """As ``_through``, resumed from where weights move if these inputs came before."""
        key, owner = named
        encode = self.network.encode_images if tower == "image" else self.network.encode_tokens

        def run(rows: range) -> Tensor:
            def whole() -> Tensor:
                return encode(inputs[rows.start : rows.stop]).float()

            return self.resumption.through(tower, (key, rows.start, rows.stop), owner, whole)

        return room.of(self.model).through(len(inputs), run)


def load(folder: Path, device: str = "cpu") -> Clip:
    """Loads either kind of folder, safetensors only. Raises CheckpointInvalid.

    Every editable weight must be found on disk under its checkpoint name and with its shape, so a
    patch can never be written that could not be applied.
    """
    if (folder / open_clip_layout.CONFIG).is_file():
        network = open_clip_layout.load(folder)
    elif (folder / hf_clip_layout.CONFIG).is_file():
        network = hf_clip_layout.load(folder)
    else:
        raise CheckpointInvalid(
            "the checkpoint folder holds neither open_clip_config.json nor config.json"
        )
    network.model.requires_grad_(False)
    network.model.to(device)
    family = Clip(network, folder, torch.device(device))
    on_disk = tensors_on_disk(folder)
    parameters = dict(network.model.named_parameters())
    for unit in family.units():
        for region in unit.regions:
            found = on_disk.get(region.parameter)
            shape = tuple(parameters[region.parameter].shape)
            if found is None or tuple(found[1].shape) != shape:
                raise CheckpointInvalid(f"{region.parameter} is not on disk with shape {shape}")
    return family
