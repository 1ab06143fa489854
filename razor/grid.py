"""A grid of pictures for the report: painted before the edit above, after it below."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor

from api_schemas.reports import PictureGrid

#: Side of one picture in the grid, at most; small ones are doubled until they come near it.
TILE = 96
GAP, BETWEEN = 2, 12
BACKGROUND = (255, 255, 255)


def grid(target: int, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> PictureGrid:
    """Pictures of the target (left) and of what is retained (right), uint8 (n, 3, s, s) each."""
    side = before[0].shape[-1]
    tile = side * max(1, TILE // side) if side <= TILE else TILE
    counts = [len(part) for part in before]
    step = tile + GAP
    width = sum(counts) * step + BETWEEN - GAP
    sheet = Image.new("RGB", (width, 2 * step - GAP), BACKGROUND)
    for row, state in enumerate((before, after)):
        for part, pictures in enumerate(state):
            left = part * (counts[0] * step + BETWEEN)
            for column, picture in enumerate(pictures):
                one = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
                scaled = one.resize(
                    (tile, tile),
                    Image.Resampling.NEAREST if side <= TILE else Image.Resampling.LANCZOS,
                )
                sheet.paste(scaled, (left + column * step, row * step))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return PictureGrid(
        target=target,
        of_target=counts[0],
        of_retained=counts[1],
        png=base64.b64encode(stream.getvalue()).decode(),
    )
