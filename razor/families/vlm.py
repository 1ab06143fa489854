"""The vision-language family: LLaVA-type models behind one face.

A question on a picture is put as the folder's own processor and chat template put it. What is
edited by default is the vision tower; a language model on an accelerator stays in half precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from api_schemas.families import Family
from razor import heads, room
from razor.families import vlm_layout
from razor.families.network import tensors_on_disk, triple
from razor.families.vlm_batches import ForgetBatch, NamingBatch, RetainBatch, Shown, Spoken
from razor.families.vlm_layout import Talker
from razor.families.vlm_seen import Seen
from razor.memory import Memory, Passes
from razor.pictures import Sizing
from razor.protocols import Unit

#: Rows of one forward pass without a gradient.
CHUNK = 64
#: Tokens of an answer at most: a name, a word, a short description.
LONGEST = 48
#: Weights from which on layers forget what they computed and compute it again for a gradient.
LARGE = 10**9
#: A name that is said with no more than this chance counts as forgotten, on the picture on which
#: it is said most; and where the forget term lets it be: with a few pictures at hand a name that
#: is hardly gone from them is back on the next one.
CHANCE, GONE = 0.01, 1e-4
#: Of how many of the frozen model's likeliest tokens the drift is watched.
TOP = 32


@dataclass
class Vlm:
    """A vision-language model that can be edited and measured. Capability: answers questions."""

    talker: Talker
    folder: Path
    device: torch.device
    sizing: Sizing
    passes: Passes = field(default_factory=Passes)
    memory: Memory = field(default_factory=Memory)
    longest: int = LONGEST  # answer, in tokens
    _openings: dict[str, list[int]] = field(default_factory=dict)

    name = Family.VLM

    @property
    def model(self) -> nn.Module:
        """The network, in evaluation mode."""
        network: nn.Module = self.talker.model
        return network

    def units(self) -> tuple[Unit, ...]:
        """The matrices and heads of the vision tower, the projector and the language model."""
        return tuple(unit for layer in self.talker.layers for unit in heads.units(layer))

    def moving(self, units: Sequence[Unit]) -> AbstractContextManager[None]:
        """Nothing is kept from below these units."""
        return nullcontext()

    def place(self, parameter: str) -> tuple[str, str]:
        """The file inside the folder, and the tensor's name in it."""
        return self.talker.on_disk[parameter]

    def dtypes(self) -> dict[str, str]:
        """The type on disk of every editable parameter."""
        stored = tensors_on_disk(self.folder)
        return {p: stored[tensor][1].dtype for p, (_, tensor) in self.talker.on_disk.items()}

    def show(self, pixels: Tensor) -> Shown:  # (n, 3, size, size) in 0..255
        """The pictures as the model's own processor prepares them."""
        pictures = list(pixels.round().clamp(0, 255).to(torch.uint8).cpu())
        made = dict(self.talker.processor.image_processor(images=pictures, return_tensors="pt"))
        count = len(pictures)
        flat = frozenset(key for key, value in made.items() if len(value) != count)
        rows = {
            key: value.view(count, -1, *value.shape[1:]) if key in flat else value
            for key, value in made.items()
        }
        return Shown({k: v.to(self.device) for k, v in rows.items()}, flat, count)

    def speak(
        self, shown: Shown, questions: Sequence[str], answers: Sequence[Sequence[int]]
    ) -> Spoken:
        """A question and the tokens of an answer beside each picture."""
        openings = [self.opening(question) for question in questions]
        rows = [[*o, *a] for o, a in zip(openings, answers, strict=True)]
        longest, filler = max(map(len, rows)), self._filler()
        ids = torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
        starts = torch.tensor([len(opening) for opening in openings])
        lengths = torch.tensor([len(answer) for answer in answers])
        device = self.device
        return Spoken(shown, ids.to(device), starts.to(device), lengths.to(device))

    def opening(self, question: str) -> list[int]:
        """The tokens of a conversation up to where the model begins to answer."""
        if question not in self._openings:
            processor = self.talker.processor
            content = [{"type": "image"}, {"type": "text", "text": question}]
            text = processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            blank = torch.zeros(3, self.sizing.size, self.sizing.size, dtype=torch.uint8)
            found = processor(text=[text], images=[blank], return_tensors="pt")
            self._openings[question] = found["input_ids"][0].tolist()
        return self._openings[question]

    def said(self, tokens: Sequence[int]) -> str:
        """An answer's tokens as text."""
        words = self.talker.processor.tokenizer
        return str(words.decode(list(tokens), skip_special_tokens=True)).strip()

    @torch.no_grad()
    def answer(
        self,
        shown: Shown,
        questions: Sequence[str],
        *,
        seed: int | None = None,
    ) -> list[list[int]]:
        """The tokens of an answer to each question on its picture, end sign and all.

        Word by word the likeliest; with a seed drawn at random, as likely as the model says.
        """

        def answered(rows: range) -> list[list[int]]:
            asked = [questions[row] for row in rows]
            return self._answered(shown.take(rows), asked, sampled=seed is not None)

        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            parts = room.of(self.model).parts(len(questions), CHUNK, answered)
        return [tokens for part in parts for tokens in part]

    def logits(self, spoken: Spoken) -> Tensor:  # (n, longest answer, vocabulary)
        """What the model thinks of each place of the answers; gradients flow."""
        longest = int(spoken.lengths.max())

        def part(rows: range) -> Tensor:
            found = self._logits(spoken if len(rows) == len(spoken) else spoken.take(rows))
            short = longest - found.shape[1]
            return F.pad(found, (0, 0, 0, short)) if short else found

        return room.of(self.model).through(len(spoken), part)

    def _logits(self, spoken: Spoken) -> Tensor:
        self.passes.forward += 1
        network: Any = self.model
        # What stands at a place is foretold at the place before it; earlier ones are not computed.
        first = int(spoken.starts.min()) - 1
        with _recomputing(network):
            # No mask: padding comes last, where nothing before it looks, and without one the
            # libraries take their kernels for causal attention (0.7 of the time on LLaVA-NeXT).
            out = network(
                input_ids=spoken.ids,
                logits_to_keep=spoken.ids.shape[1] - first,
                use_cache=False,
                **self._marks(spoken.ids),
                **spoken.shown.inputs(),
            ).logits.float()
        places = torch.arange(int(spoken.lengths.max()), device=out.device)
        at = (spoken.starts[:, None] - 1 - first + places[None]).clamp(max=out.shape[1] - 1)
        found: Tensor = out.gather(1, at[..., None].expand(-1, -1, out.shape[-1]))
        return found

    def likelihood(self, spoken: Spoken) -> Tensor:  # (n, longest answer)
        """Log-probability of every token of the answers; 0 where there is none."""
        chances = self.logits(spoken).log_softmax(dim=-1)
        each: Tensor = chances.gather(-1, spoken.answers()[..., None])[..., 0]
        return each.masked_fill(~spoken.where(), 0.0)

    @torch.no_grad()
    def remember(self, spoken: Spoken) -> RetainBatch:
        """What the model thinks now at each place of the answers."""
        parts = []
        for start in range(0, len(spoken), CHUNK):
            part = spoken.take(range(start, min(len(spoken), start + CHUNK)))
            top = self.logits(part).topk(TOP, dim=-1)
            short = int(spoken.lengths.max()) - top.indices.shape[1]
            parts.append([F.pad(t, (0, 0, 0, short)) for t in (top.indices, centred(top.values))])
        likeliest, scores = (torch.cat(side) for side in zip(*parts, strict=True))
        return RetainBatch(spoken, likeliest, scores)

    def features(self, shown: Shown) -> Tensor:  # (n, d)
        """What the projector reads of each picture, averaged over its places; gradients flow."""

        def part(rows: range) -> Tensor:
            return self._features(shown if len(rows) == shown.count else shown.take(rows))

        return room.of(self.model).through(shown.count, part)

    def _features(self, shown: Shown) -> Tensor:
        self.passes.forward += 1
        network: Any = self.model
        read: list[Tensor] = []
        handle = self._projector().register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            with _recomputing(network):
                network.get_image_features(**shown.inputs())
        finally:
            handle.remove()
        whole = torch.cat([part.flatten(0, -2) for part in read])
        return whole.view(shown.count, -1, whole.shape[-1]).float().mean(dim=1)

    @torch.no_grad()
    def embed(self, shown: Shown) -> Tensor:  # (n, d)
        """``features`` without a gradient, in parts that fit."""
        starts = range(0, shown.count, CHUNK)
        return torch.cat(
            [self.features(shown.take(range(k, min(shown.count, k + CHUNK)))) for k in starts]
        )

    def odds(self, batch: NamingBatch) -> Tensor:  # (n,)
        """Log-odds that the concept is named where the frozen model named it; gradients flow."""
        places, every = batch.at[:, None], self.logits(batch.spoken)
        logits = every.gather(1, places[..., None].expand(-1, -1, every.shape[-1]))
        tokens = batch.spoken.answers().gather(1, places)
        own = logits[:, 0].gather(1, tokens)
        others = logits[:, 0].scatter(1, tokens, -torch.inf).logsumexp(dim=1)
        return own[:, 0] - others

    def forget_loss(self, batch: ForgetBatch | NamingBatch) -> Tensor:
        """How far the concept is from its name, or from where its pictures lay.

        A name that is said with no more chance than ``GONE`` is left alone. Pictures: the mean of
        1 - cos between where they lie and where they lay.
        """
        self.passes.backward += 1
        if isinstance(batch, NamingBatch):
            return -self.odds(batch).clamp_min(log_odds(GONE)).mean()
        moved = F.normalize(self.features(batch.shown) - batch.centre, dim=-1)
        return (1 - moved @ batch.concept).mean()

    def retain_loss(self, batch: RetainBatch) -> Tensor:
        """How unlikely the frozen model's answers have become."""
        return self.kept_losses(batch)[0]

    def mismatch_loss(self, batch: RetainBatch) -> Tensor:
        """Drift of the logits of what the frozen model thought likeliest."""
        return self.kept_losses(batch)[1]

    def kept_losses(self, batch: RetainBatch) -> tuple[Tensor, Tensor]:
        """Answer likelihood and logit drift, from one forward pass."""
        self.passes.backward += 1
        logits, where = self.logits(batch.spoken), batch.spoken.where()
        ids = batch.spoken.answers()
        each = logits.log_softmax(dim=-1).gather(-1, ids[..., None])[..., 0]
        now = centred(logits.gather(-1, batch.likeliest))
        return -each[where].mean(), (now - batch.scores)[where].square().mean()

    def naming_loss(self, spoken: Spoken) -> Tensor:
        """How unlikely these answers are."""
        self.passes.backward += 1
        return -self.likelihood(spoken).sum() / spoken.lengths.sum()

    def _answered(
        self, shown: Shown, questions: Sequence[str], *, sampled: bool
    ) -> list[list[int]]:
        network: Any = self.model
        openings = [self.opening(question) for question in questions]
        widest, filler = max(map(len, openings)), self._filler()
        # Filled up on the left: what is said next follows the last word of each.
        ids = torch.tensor([[*[filler] * (widest - len(row)), *row] for row in openings])
        lengths = torch.tensor([len(row) for row in openings])[:, None]
        mask = (torch.arange(widest)[None] >= widest - lengths).long().to(self.device)
        ids = ids.to(self.device)
        chosen = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
        out = network.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=self.longest,
            # A picture's own tokens are no words.
            suppress_tokens=self._pictures(),
            pad_token_id=filler,
            **(chosen if sampled else {"do_sample": False}),
            **self._marks(ids),
            **shown.inputs(),
        )
        self.passes.forward += out.shape[1] - widest
        return [self._cut(row) for row in out[:, widest:].tolist()]

    def _cut(self, row: list[int]) -> list[int]:
        """Up to the first end sign, which stays."""
        ends = self._ends()
        at = next((k for k, token in enumerate(row) if token in ends), None)
        return row if at is None else row[: at + 1]

    def _pictures(self) -> list[int]:
        processor = self.talker.processor
        found = [getattr(processor, f"{kind}_token_id", None) for kind in ("image", "video")]
        return [token for token in found if token is not None]

    def _ends(self) -> set[int]:
        network: Any = self.model
        found = network.generation_config.eos_token_id
        if found is None:
            found = self.talker.processor.tokenizer.eos_token_id
        return set(found) if isinstance(found, list) else {found}

    def _filler(self) -> int:
        words = self.talker.processor.tokenizer
        return int(words.pad_token_id if words.pad_token_id is not None else words.eos_token_id)

    def _marks(self, ids: Tensor) -> dict[str, Tensor]:
        """Where pictures stand among the tokens, for models that want to be told."""
        if not getattr(self.talker.processor, "return_mm_token_type_ids", False):
            return {}
        network: Any = self.model
        return {"mm_token_type_ids": (ids == network.config.image_token_id).long()}

    def _projector(self) -> nn.Module:
        paths = vlm_layout.TOWERS["projector"]
        found: nn.Module = next(
            module for path, module in self.model.named_modules() if path.endswith(paths)
        )
        return found


def log_odds(chance: float) -> float:
    """log(p / (1 - p))."""
    return math.log(chance / (1 - chance))


def centred(scores: Tensor) -> Tensor:
    """Logits less their mean: only their differences decide anything."""
    return scores - scores.mean(dim=-1, keepdim=True)


@contextmanager
def _recomputing(network: nn.Module) -> Iterator[None]:
    """Inside, layers that are set to keep no activations for a gradient do as they are set.

    The library lets them only while they train. Their parts stay as they are, so nothing is
    dropped out; and without a gradient nothing is switched, for then they may use a cache.
    """
    layers = [
        module
        for module in network.modules()
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing
    ]
    for layer in layers:
        layer.training = torch.is_grad_enabled()
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def spare_memory(network: Any) -> None:
    """From now on a gradient costs a second forward pass and hardly any memory."""
    network.activation_checkpointing_enable({"use_reentrant": False})


def load(folder: Path, device: str) -> Vlm:
    """Loads the folder of a vision-language model. Raises CheckpointInvalid."""
    talker = vlm_layout.load(folder)
    if sum(p.numel() for p in talker.model.parameters()) > LARGE:
        spare_memory(talker.model)
    talker.model.to(device)
    if (read := getattr(talker.model.config, "vision_feature_layer", None)) is not None:
        Seen(talker.model.model.vision_tower, read)
    if torch.device(device).type == "cuda":
        # Nothing of it is edited by default: no float32 copy of seven billion weights.
        talker.model.model.language_model.half()
        talker.model.lm_head.half()
    return Vlm(talker, folder, torch.device(device), _sizing(talker))


def _sizing(talker: Talker) -> Sizing:
    """Square pictures of the side that the model's own processor crops to."""
    images = talker.processor.image_processor
    crop = getattr(images, "crop_size", None)
    side = int(crop["height"]) if crop else 8 * int(images.patch_size) * int(images.merge_size)
    return Sizing(side, triple(images.image_mean, (0.5,) * 3), triple(images.image_std, (0.5,) * 3))
