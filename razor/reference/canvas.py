"""A brush that paints in the subject's own coordinates, shifted, scaled and tilted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

# One circle, reused by every oval: 28 corners look round at the four-fold resolution we paint in.
CIRCLE: tuple[Point, ...] = tuple(
    (math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)
)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`, share in [0, 1]."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


def darker(colour: Colour, share: float) -> Colour:
    """The colour mixed with a warm near-black; pure black looks like a hole in a drawing."""
    return mix(colour, (30, 18, 24), share)


def lighter(colour: Colour, share: float) -> Colour:
    """The colour mixed with a warm near-white."""
    return mix(colour, (255, 250, 240), share)


@dataclass(frozen=True)
class Pose:
    """Where the figure stands: centre and unit in pixels, tilt in radians (clockwise)."""

    x: float
    y: float
    unit: float
    tilt: float


class Brush:
    """Paints on one image in figure coordinates: (0, 0) is the pose's centre, y points down."""

    def __init__(self, image: Image.Image, pose: Pose) -> None:
        self._draw = ImageDraw.Draw(image)
        self._pose = pose
        self._across = pose.unit * math.cos(pose.tilt)
        self._along = pose.unit * math.sin(pose.tilt)

    def pixels(self, points: Sequence[Point]) -> list[Point]:
        """The points in pixels of the image."""
        x0, y0, c, s = self._pose.x, self._pose.y, self._across, self._along
        return [(x0 + c * x - s * y, y0 + s * x + c * y) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill a closed shape."""
        self._draw.polygon(self.pixels(points), fill=fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Fill an ellipse with half-axes `rx`, `ry`, tilted with the figure."""
        self.polygon([(x + rx * c, y + ry * s) for c, s in CIRCLE], fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """Draw a line of `width` figure units with rounded joints."""
        pixels = max(1, round(width * self._pose.unit))
        self._draw.line(self.pixels(points), fill=fill, width=pixels, joint="curve")

    def arc(
        self, x: float, y: float, rx: float, ry: float, span: Point, fill: Colour, width: float
    ) -> None:
        """Draw part of an ellipse; `span` is (from, to) in degrees, 0 = right, 90 = down."""
        low, high = math.radians(span[0]), math.radians(span[1])
        corners = max(9, round((high - low) * 4))
        steps = [low + (high - low) * k / corners for k in range(corners + 1)]
        self.line([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in steps], fill, width)
