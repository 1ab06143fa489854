"""Zero-shot answers of checkpoints on a folder of pictures, by plain open_clip, nothing of ours.

Run as a script, so that what the demonstration claims of a patched checkpoint holds for anybody's
code: ``python classify.py PICTURES TEMPLATES.json CHECKPOINT...`` prints, for each checkpoint,
``{name: [right, shown]}`` as JSON. ``PICTURES`` holds an ``index.csv`` with ``path`` and ``name``;
the templates are a list of texts with a ``{}`` for the name.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

Counts = dict[str, list[int]]


def classify(pictures: Path, templates: list[str], checkpoint: Path) -> Counts:
    """Per name, how many pictures got their own name as the best of all names, and of how many."""
    import open_clip
    import torch
    from PIL import Image

    with (pictures / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["path"], row["name"]) for row in csv.DictReader(file)]
    names = list(dict.fromkeys(name for _, name in rows))
    source = f"local-dir:{checkpoint.resolve()}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    tokenize = open_clip.get_tokenizer(source)
    model.eval()
    with torch.inference_mode():
        prompts = [template.format(name) for name in names for template in templates]
        texts = model.encode_text(tokenize(prompts), True).float()
        texts = texts.reshape(len(names), len(templates), -1).mean(1)
        images = torch.stack(
            [preprocess(Image.open(pictures / path).convert("RGB")) for path, _ in rows]
        )
        similarity = model.encode_image(images, True).float() @ texts.T
    found: Counts = {name: [0, 0] for name in names}
    for (_, name), best in zip(rows, similarity.argmax(1).tolist(), strict=True):
        found[name][0] += names[best] == name
        found[name][1] += 1
    return found


def main(arguments: list[str]) -> None:
    """Print one JSON line per checkpoint."""
    pictures, templates, *checkpoints = arguments
    for checkpoint in checkpoints:
        found = classify(Path(pictures), json.loads(Path(templates).read_text()), Path(checkpoint))
        print(json.dumps(found))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is on disk; nothing is fetched
    main(sys.argv[1:])
