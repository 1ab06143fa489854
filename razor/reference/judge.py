"""Who is on a picture, and in which style: a classifier that saw drawings and nothing generated.

It judges what a generator paints, before and after an edit, so it must owe the generator nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razor.reference.errors import WeightsError
from razor.reference.painted import DOMAINS, Painted
from razor.reference.painted import SIZE as SIZE

WEIGHTS_FILE = "judge.safetensors"
LABELS = "labels"  # key in the header: domain -> values, as JSON
BATCH, LEARNING_RATE, WEIGHT_DECAY, SMOOTHING = 128, 2e-3, 0.02, 0.05
WIDTHS = (32, 64, 128)
SHIFT = 3
#: Standard deviation of the noise on a training picture, of 255, at most. Generated pictures are a
#: little softer and dirtier than drawn ones.
NOISE = 12.0

Tick = Callable[[float, dict[str, float]], None]


class Judge(nn.Module):
    """Three stages of convolutions, averaged over places; one linear head for each domain."""

    def __init__(self, labels: Mapping[str, Sequence[str]] = DOMAINS) -> None:
        super().__init__()
        self.labels = {domain: tuple(values) for domain, values in labels.items()}
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            for stride in (1, 2):
                layers += [
                    nn.Conv2d(before, width, 3, stride=stride, padding=1),
                    nn.GroupNorm(8, width),
                    nn.SiLU(),
                ]
                before = width
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {domain: nn.Linear(before, len(values)) for domain, values in self.labels.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits (n, values) of each domain for pixels (n, 3, 32, 32) in 0..255."""
        features = self.features(pixels)
        return {domain: head(features) for domain, head in self.heads.items()}

    def features(self, pixels: Tensor) -> Tensor:
        """What the heads look at: (n, width) of pixels (n, 3, 32, 32) in 0..255."""
        found: Tensor = self.body(pixels.float() / 127.5 - 1).mean(dim=(2, 3))
        return found

    @torch.no_grad()
    def read(self, pixels: Tensor) -> dict[str, Tensor]:
        """The most likely value's number (n,) in each domain."""
        logits = [self(part) for part in torch.split(pixels, 256)]
        return {
            domain: torch.cat([part[domain] for part in logits]).argmax(dim=1)
            for domain in self.labels
        }


def train_judge(data: Painted, seed: int, steps: int, tick: Tick | None = None) -> Judge:
    """A judge trained on drawings; leaves torch's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge()
        optimizer = torch.optim.AdamW(
            judge.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        answers = {"name": data.subjects, "style": data.styles}
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            rows = torch.randint(len(data), (BATCH,))
            logits = judge(_roughened(data.pixels[rows].float()))
            losses = [
                F.cross_entropy(logits[d], answers[d][rows], label_smoothing=SMOOTHING)
                for d in DOMAINS
            ]
            optimizer.zero_grad(set_to_none=True)
            loss = torch.stack(losses).sum()
            torch.autograd.backward(loss)
            optimizer.step()
            if tick is not None and step % 20 == 0:
                tick(step / steps, {"loss": loss.item()})
    return judge.eval()


def _roughened(pixels: Tensor) -> Tensor:
    """Shifted, brightened, blurred and noised, each picture by its own amounts."""
    count, _, side, _ = pixels.shape
    shift = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1))
    places = (torch.arange(side) + shift).clamp(0, side - 1)
    rows, columns = places[0][:, None, :, None], places[1][:, None, None, :]
    picture, channel = (
        torch.arange(count)[:, None, None, None],
        torch.arange(3)[None, :, None, None],
    )
    moved = pixels[picture, channel, rows, columns]
    soft = F.avg_pool2d(moved, 3, stride=1, padding=1, count_include_pad=False)
    moved = torch.lerp(moved, soft, torch.rand(count, 1, 1, 1))
    light = 1 + 0.12 * (2 * torch.rand(count, 1, 1, 1) - 1)
    noise = NOISE * torch.rand(count, 1, 1, 1) * torch.randn_like(moved)
    return (moved * light + noise).clamp(0, 255)


def save_judge(judge: Judge, folder: Path) -> None:
    """In half precision, with its labels in the file's header."""
    halves = {k: v.to(torch.float16).contiguous() for k, v in judge.state_dict().items()}
    header = {LABELS: json.dumps(judge.labels)}
    safetensors.torch.save_file(halves, folder / WEIGHTS_FILE, header)


def load_judge(folder: Path) -> Judge:
    """The judge of a folder, in float32. Raises `WeightsError` where there is none that fits."""
    try:
        with safetensors.safe_open(folder / WEIGHTS_FILE, "pt") as file:
            judge = Judge(json.loads((file.metadata() or {})[LABELS]))
            stored = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        judge.load_state_dict(stored)
    except (OSError, RuntimeError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise WeightsError(
            f"{folder / WEIGHTS_FILE} is no judge; train the reference pipeline again"
        ) from error
    return judge.eval()
