"""Zero-shot classification: the nearest class text to a picture, as CLIP is used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from razor.protocols import Embeds


def class_embeddings(
    family: Embeds, classes: Sequence[str], templates: Sequence[str]
) -> Tensor:  # (classes, d), unit length
    """One embedding per class: the mean over templates, normalised (arXiv 2103.00020, 3.1.4)."""
    texts = [template.format(name) for name in classes for template in templates]
    embedded = family.embed_texts(texts).view(len(classes), len(templates), -1)
    return F.normalize(embedded.mean(dim=1), dim=-1)


def predict(
    images: Tensor,  # (n, d), unit length
    classes: Tensor,  # (c, d), unit length
) -> Tensor:  # (n,) index of the best class; CPU
    """The top-1 class of each picture; ties go to the first class."""
    if images.shape[0] == 0:
        return torch.empty(0, dtype=torch.long)
    return (images @ classes.T).argmax(dim=1).cpu()
