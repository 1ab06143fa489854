"""The three losses for models that embed pictures and texts into one space.

One sign convention everywhere: losses are written to be minimised in training, and the forget loss
is *not* negated, so moving weights along +grad(L_forget) forgets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_forget(
    images: Tensor,  # (n, d), unit length
    texts: Tensor,  # (m, d), unit length: the concept's names
) -> Tensor:
    """Mean of 1 - cos(v_i, t_j) over pictures and names (arXiv 2407.11867, section 3)."""
    return (1 - images @ texts.T).mean()


def symmetric_infonce(
    images: Tensor,  # (n, d), unit length
    texts: Tensor,  # (n, d), unit length
    scale: Tensor,  # (), the model's temperature, already exponentiated
    captions: Sequence[str],
) -> Tensor:
    """CLIP's loss, where equal captions are each other's positives rather than negatives.

    Source: CLIP (arXiv 2103.00020, figure 3); several positives share the target mass evenly, as
    in supervised contrastive learning (arXiv 2004.11362, equation 2).
    """
    ids = {caption: index for index, caption in enumerate(dict.fromkeys(captions))}
    labels = torch.tensor([ids[caption] for caption in captions], device=images.device)
    same = (labels[:, None] == labels[None, :]).to(images.dtype)
    wanted = same / same.sum(dim=1, keepdim=True)
    logits = scale * images @ texts.T
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def similarity_drift(
    images: Tensor,  # (n, d), unit length
    texts: Tensor,  # (n, d), unit length
    frozen: Tensor,  # (n, n), the frozen model's similarities of the same pairs
) -> Tensor:
    """Mean squared change of the image-text similarities, matched and crossed pairs alike.

    The paper names the term; taking crossed pairs as well is our choice: they are what decides
    which text wins for a picture.
    """
    return (images @ texts.T - frozen).square().mean()
