"""Pipelines of every supported class, tiny and with random weights: units, names, bad folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from razor import heads
from razor.errors import CheckpointInvalid
from razor.families import diffusers_layout
from razor.reference.diffusion import discrete_scheduler as scheduler
from razor.reference.wording import tokenizer
from tests.razor.test_heads import covered

PARTS: Any = diffusers


def clip_config(words: Any) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=words.model_max_length,
        projection_dim=16,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def autoencoder(**more: Any) -> Any:
    return PARTS.AutoencoderKL(
        block_out_channels=(8,),
        latent_channels=4,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        sample_size=8,
        **more,
    )


def unet(**more: Any) -> Any:
    return PARTS.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )


def stable_diffusion() -> Any:
    words = tokenizer()
    text = transformers.CLIPTextModel(clip_config(words))
    return PARTS.StableDiffusionPipeline(
        autoencoder(),
        text,
        words,
        unet(cross_attention_dim=16),
        scheduler(),
        None,
        None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    words = tokenizer()
    network = unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )
    return PARTS.StableDiffusionXLPipeline(
        autoencoder(),
        transformers.CLIPTextModel(clip_config(words)),
        transformers.CLIPTextModelWithProjection(clip_config(words)),
        words,
        tokenizer(),
        network,
        scheduler(),
    )


def stable_diffusion_3() -> Any:
    words = tokenizer()
    network = PARTS.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=8,
    )
    return PARTS.StableDiffusion3Pipeline(
        network,
        PARTS.FlowMatchEulerDiscreteScheduler(),
        autoencoder(shift_factor=0.1),
        transformers.CLIPTextModelWithProjection(clip_config(words)),
        words,
        transformers.CLIPTextModelWithProjection(clip_config(words)),
        tokenizer(),
        None,
        None,
    )


MADE: dict[str, Callable[[], Any]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "StableDiffusion3Pipeline": stable_diffusion_3,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind, make in MADE.items():
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("pipelines") / kind
        make().save_pretrained(folder)
        found[kind] = folder
    return found


@pytest.mark.parametrize(
    ("kind", "towers", "layers"),
    [
        ("StableDiffusionPipeline", ["text_encoder", "unet"], 2 + 4),
        ("StableDiffusionXLPipeline", ["text_encoder", "text_encoder_2", "unet"], 4 + 4),
        ("StableDiffusion3Pipeline", ["text_encoder", "text_encoder_2", "transformer"], 4 + 2),
    ],
)
def test_every_part_with_layers_has_units(
    folders: dict[str, Path], kind: str, towers: list[str], layers: int
) -> None:
    found = diffusers_layout.load(folders[kind])
    assert list(dict.fromkeys(layer.tower for layer in found.layers)) == towers
    assert len(found.layers) == layers
    units = [unit for layer in found.layers for unit in heads.units(layer)]
    assert len({unit.name for unit in units}) == len(units)
    parameters = dict(found.model.named_parameters())
    for unit in units:
        for region in unit.regions:
            assert parameters[region.parameter].ndim == 2
            assert region.of(parameters[region.parameter]).numel() == region.size()
    assert not any(parameter.requires_grad for parameter in parameters.values())


@pytest.mark.parametrize("kind", MADE)
def test_heads_cut_each_attention_into_equal_parts(folders: dict[str, Path], kind: str) -> None:
    found = diffusers_layout.load(folders[kind])
    parameters = dict(found.model.named_parameters())
    for layer in found.layers:
        cut = list(heads.head_units(layer))
        for attention in layer.attentions:
            for region in {**attention.rows, **attention.columns}.values():
                shape = tuple(parameters[region.parameter].shape)
                assert (covered(cut, region.parameter, shape) == 1).all()


def test_an_mmdit_head_reaches_into_both_streams(folders: dict[str, Path]) -> None:
    first, last = diffusers_layout.load(folders["StableDiffusion3Pipeline"]).layers[-2:]
    (joint,) = first.attentions
    assert list(joint.rows) == ["q", "k", "v", "added_q", "added_k", "added_v"]
    assert list(joint.columns) == ["out", "added_out"]
    assert {"added_up", "added_down"} <= set(first.others)
    # The last block hands no text on, so it has no matrices that would make any.
    assert list(last.attentions[0].columns) == ["out"]
    assert "added_q" not in last.attentions[0].rows
    assert "added_up" not in last.others


def test_names_on_disk_are_those_that_diffusers_reads(folders: dict[str, Path]) -> None:
    """Weights changed in the files under the names we say are the ones that come back changed."""
    import safetensors.torch

    for kind, folder in folders.items():
        found = diffusers_layout.load(folder)
        parameters = dict(found.model.named_parameters())
        for parameter, (file, tensor) in found.on_disk.items():
            stored = safetensors.torch.load_file(folder / file)[tensor]
            assert torch.equal(stored, parameters[parameter]), (kind, parameter)


def broken(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def test_bad_folders_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    good = folders["StableDiffusionPipeline"]
    with pytest.raises(CheckpointInvalid, match=r"model_index\.json"):
        diffusers_layout.load(tmp_path)

    unsupported = broken(good, tmp_path / "class")
    index = json.loads((unsupported / "model_index.json").read_text())
    (unsupported / "model_index.json").write_text(json.dumps({**index, "_class_name": "Kandinsky"}))
    with pytest.raises(CheckpointInvalid, match="StableDiffusion3Pipeline"):
        diffusers_layout.load(unsupported)

    missing = broken(good, tmp_path / "missing")
    shutil.rmtree(missing / "unet")
    with pytest.raises(CheckpointInvalid, match="every part"):
        diffusers_layout.load(missing)

    pickled = broken(good, tmp_path / "pickled")
    weights = pickled / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointInvalid, match="safetensors"):
        diffusers_layout.load(pickled)

    other = broken(good, tmp_path / "other")
    config = other / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 8'))
    with pytest.raises(CheckpointInvalid, match="every part"):
        diffusers_layout.load(other)
