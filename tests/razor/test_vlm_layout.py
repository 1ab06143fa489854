"""Vision-language folders: what may be edited in them, where it lies, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from razor import heads
from razor.errors import CheckpointInvalid
from razor.families import vlm_layout
from razor.families.vlm_layout import ARCHITECTURES, Talker
from tests.razor import vlm_world


@pytest.fixture(scope="module", params=vlm_world.KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vlm_world.save(request.param, tmp_path_factory.mktemp("vlm") / request.param)


@pytest.fixture(scope="module")
def talker(folder: Path) -> Talker:
    return vlm_layout.load(folder)


def asked(processor: Any) -> dict[str, torch.Tensor]:
    """A question on a picture, as the model's own processor puts it."""
    picture = torch.randint(0, 255, (3, 64, 64), generator=torch.Generator().manual_seed(3))
    content = [{"type": "image"}, {"type": "text", "text": "Who is this?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    found = processor(text=[text], images=[picture.to(torch.uint8)], return_tensors="pt")
    return dict(found)


def test_a_change_written_under_the_names_on_disk_is_what_transformers_reads(
    folder: Path, talker: Talker, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    stored = load_file(copy / "model.safetensors")
    inputs = asked(talker.processor)
    before = talker.model(**inputs).logits
    parameters = dict(talker.model.named_parameters())
    changed = [layer.others["up"] for layer in talker.layers if "up" in layer.others]
    kept = {region.parameter: parameters[region.parameter].clone() for region in changed}
    try:
        for region in changed:
            value = (parameters[region.parameter] * 1.5).half()
            parameters[region.parameter].copy_(value)
            stored[talker.on_disk[region.parameter][1]] = value
        save_file(stored, copy / "model.safetensors", {"format": "pt"})
        after = talker.model(**inputs).logits
        kind = ARCHITECTURES[talker.model.config.model_type]
        again = getattr(transformers, kind).from_pretrained(copy, dtype=torch.float32)
        assert not torch.allclose(before, after, atol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(again(**inputs).logits, after)
    finally:
        for name, value in kept.items():
            parameters[name].copy_(value)


def test_every_unit_moves_the_answer(talker: Talker) -> None:
    parameters = dict(talker.model.named_parameters())
    units = [unit for layer in talker.layers for unit in heads.units(layer)]
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        talker.model(**asked(talker.processor)).logits.square().sum().backward()
        for unit in units:
            for region in unit.regions:
                gradient = parameters[region.parameter].grad
                assert gradient is not None, unit.name
                assert region.of(gradient).abs().sum() > 0, unit.name
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
    assert {unit.tower for unit in units} == {"image", "projector", "language"}


def test_heads_that_share_keys_and_values_are_one_unit(talker: Talker) -> None:
    text = talker.model.config.text_config
    groups, width = text.num_key_value_heads, text.hidden_size
    layer = next(layer for layer in talker.layers if layer.tower == "language")
    found = list(heads.head_units(layer))
    assert len(found) == groups < text.num_attention_heads
    rows = {r.parameter.split(".")[-2]: r.ranges[0] for r in found[1].regions}
    size = width // text.num_attention_heads
    assert rows["q_proj"] == (width // groups, 2 * width // groups)
    assert rows["k_proj"] == rows["v_proj"] == (size, 2 * size)


def test_weights_in_several_files_are_found(tmp_path: Path) -> None:
    folder = vlm_world.save("llava", tmp_path / "shards", max_shard_size="500KB")
    places = vlm_layout.load(folder).on_disk.values()
    assert len({file for file, _ in places}) > 3
    assert all(name in load_file(folder / file) for file, name in places)


def test_two_equal_tensors_are_told_apart_by_their_names(tmp_path: Path) -> None:
    folder = vlm_world.save("llava", tmp_path / "equal")
    weights = load_file(folder / "model.safetensors")
    alike = [f"vision_tower.encoder.layers.{k}.mlp.fc1.weight" for k in (0, 2)]
    weights[alike[1]] = weights[alike[0]].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = vlm_layout.load(folder).on_disk
    for name in alike:
        assert found[f"model.{name}"][1] == name


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("no config", "no readable config.json"),
        ("another type", "of this type cannot be edited"),
        ("no weights", "holds no .safetensors"),
        ("no processor", "transformers cannot load"),
        ("no template", "no chat template"),
        ("cut weights", "not a sound safetensors file"),
    ],
)
def test_bad_folders_are_refused_in_words(tmp_path: Path, harm: str, words: str) -> None:
    folder = vlm_world.save("llava", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    match harm:
        case "no config":
            (folder / "config.json").unlink()
        case "another type":
            (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "no processor":
            for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
                (folder / file).unlink()
        case "no template":
            (folder / "chat_template.jinja").unlink()
        case "cut weights":
            whole = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointInvalid, match=words):
        vlm_layout.load(folder)
