"""Who says what a generated picture shows: somebody who owes the generator nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from razor import pictures, zero_shot
from razor.errors import CheckpointInvalid
from razor.families import clip
from razor.protocols import Judge
from razor.reference import judge as drawn
from razor.reference.errors import WeightsError


@dataclass(frozen=True)
class DrawnJudge:
    """The classifier that was trained on drawings; it has labels of its own."""

    network: drawn.Judge

    def knows(self, domain: str) -> bool:
        """Whether it was trained to."""
        return domain in self.network.labels

    @torch.no_grad()
    def names(self, pixels: Tensor, domain: str, among: Sequence[str]) -> list[str]:
        """Its own best label, whatever was to choose from."""
        labels = self.network.labels[domain]
        return [labels[i] for i in self.network.read(_scaled(pixels, drawn.SIZE))[domain].tolist()]

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """What its heads look at."""
        return F.normalize(self.network.features(_scaled(pixels, drawn.SIZE)), dim=-1)


@dataclass(frozen=True)
class ClipJudge:
    """A CLIP model with the templates of the shelf: zero-shot, so any name can be asked for."""

    model: clip.Clip
    templates: dict[str, tuple[str, ...]]

    def knows(self, domain: str) -> bool:
        """Whether there are words to ask with."""
        return domain in self.templates

    def names(self, pixels: Tensor, domain: str, among: Sequence[str]) -> list[str]:
        """The nearest of these labels."""
        classes = zero_shot.class_embeddings(self.model, among, self.templates[domain])
        found = zero_shot.predict(self.features(pixels), classes)
        return [among[i] for i in found.tolist()]

    def features(self, pixels: Tensor) -> Tensor:
        """CLIP's picture embeddings."""
        return self.model.embed_images(_scaled(pixels, self.model.size))


def load(folder: Path, device: str, templates: dict[str, tuple[str, ...]]) -> Judge:
    """The judge in ``folder``: the reference one, or any CLIP. Raises CheckpointInvalid."""
    if (folder / drawn.WEIGHTS_FILE).is_file():
        try:
            return DrawnJudge(drawn.load_judge(folder))
        except WeightsError as error:
            raise CheckpointInvalid(str(error)) from error
    return ClipJudge(clip.load(folder, device), templates)


def _scaled(pixels: Tensor, size: int) -> Tensor:  # (n, 3, size, size) uint8
    if pixels.shape[-1] == size:
        return pixels
    return pictures.resized(pixels, size)
