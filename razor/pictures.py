"""Pictures as tensors: decoding, sizing, label-preserving augmentation."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from razor.errors import PictureInvalid

FORMATS = ("JPEG", "PNG", "WEBP", "PPM")


@dataclass(frozen=True)
class Sizing:
    """How a model wants its pictures: short side to ``size``, centre crop, per-channel scaling."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bicubic: bool = True

    def fit(self, picture: Image.Image) -> Tensor:
        """The picture as uint8 (3, size, size)."""
        rgb = ImageOps.exif_transpose(picture).convert("RGB")
        resample = Image.Resampling.BICUBIC if self.bicubic else Image.Resampling.BILINEAR
        # Only the central square is scaled: a long thin picture must not grow into a huge one.
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        if rgb.size != (self.size, self.size):
            box = (left, top, left + side, top + side)
            rgb = rgb.resize((self.size, self.size), resample, box=box)
        return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()

    def normalise(
        self,
        pixels: Tensor,  # (n, 3, size, size), uint8 or float in 0..255
    ) -> Tensor:
        """The pictures as the network takes them, float32."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.float() / 255 - mean) / std


def decode(data: bytes) -> Image.Image:
    """The picture in ``data``. Raises PictureInvalid."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        picture.load()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise PictureInvalid from error
    return picture


def load(paths: Sequence[Path], sizing: Sizing) -> Tensor:
    """The pictures at ``paths`` as uint8 (n, 3, size, size). Raises PictureInvalid."""
    return stack([path.read_bytes() for path in paths], sizing)


def stack(blobs: Sequence[bytes], sizing: Sizing) -> Tensor:
    """The encoded pictures as uint8 (n, 3, size, size). Raises PictureInvalid."""
    if not blobs:
        return torch.empty((0, 3, sizing.size, sizing.size), dtype=torch.uint8)
    return torch.stack([sizing.fit(decode(blob)) for blob in blobs])


def resized(pixels: Tensor, size: int) -> Tensor:
    """Square pictures (n, 3, s, s) in 0..255 as uint8 (n, 3, size, size), smoothed if smaller."""
    scaled = F.interpolate(
        pixels.float(), (size, size), mode="bicubic", antialias=True, align_corners=False
    )
    return scaled.round().clamp(0, 255).to(torch.uint8)


def digest(blobs: Sequence[bytes]) -> str:
    """Names a set of pictures without showing them; independent of their order."""
    parts = sorted(hashlib.sha256(blob).hexdigest() for blob in blobs)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def augment(
    pixels: Tensor,  # (n, 3, s, s) uint8
    copies: int,
    rng: torch.Generator,
) -> Tensor:  # (copies * n, 3, s, s) float in 0..255
    """Each picture ``copies`` times, shifted, scaled, mirrored, relit and partly drained of colour.

    Every label stays true: what a picture shows stays what it is. Colour varies most, since a few
    samples rarely show the concept in every light and style.
    """
    base = pixels.float().repeat(copies, 1, 1, 1)
    n = base.shape[0]
    chance = torch.rand((n, 8), generator=rng)
    spread = 2 * chance - 1
    scale = 1 + 0.1 * spread[:, 0]
    mirror = torch.where(chance[:, 1] < 0.5, -1.0, 1.0)
    zero = torch.zeros(n)
    rows = (
        torch.stack([scale * mirror, zero, 0.1 * spread[:, 2]], dim=1),
        torch.stack([zero, scale, 0.1 * spread[:, 3]], dim=1),
    )
    theta = torch.stack(rows, dim=1).to(base.device)
    grid = F.affine_grid(theta, list(base.shape), align_corners=False)
    moved = F.grid_sample(base, grid, padding_mode="border", align_corners=False)

    def each(values: Tensor) -> Tensor:
        return values.view(n, 1, 1, 1).to(base.device)

    grey = moved.mean(dim=1, keepdim=True)
    colour = torch.where(chance[:, 6] < 0.25, zero, 1 + 0.5 * spread[:, 7])
    drained = grey + each(colour) * (moved - grey)
    return (drained * each(1 + 0.2 * spread[:, 4]) + each(20 * spread[:, 5])).clamp(0, 255)
