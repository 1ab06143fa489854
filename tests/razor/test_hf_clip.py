"""The same weights as a Hugging Face ``CLIPModel``: same features, same units, same scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from api_schemas.methods import Razor
from patches import apply as patch_apply
from patches.errors import BaseMismatch
from razor import serialize
from razor.errors import CheckpointInvalid
from razor.families import clip
from razor.families.network import weight_files
from razor.gradients import mean_gradient, parameters_of, restrict
from razor.material import Material
from tests.razor.conftest import run
from tests.razor.test_unlearn import PERSON, base_ref, by_id


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's tensors under Hugging Face's names; the fused in-projection is cut in three."""
    fixed = {
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "logit_scale": "logit_scale",
    }
    words = (
        ("visual.transformer.resblocks", "vision_model.encoder.layers"),
        ("transformer.resblocks", "text_model.encoder.layers"),
        ("visual.ln_pre", "vision_model.pre_layrnorm"),
        ("visual.ln_post", "vision_model.post_layernorm"),
        ("ln_final", "text_model.final_layer_norm"),
        ("attn.out_proj", "self_attn.out_proj"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
        ("ln_1", "layer_norm1"),
        ("ln_2", "layer_norm2"),
    )
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in ("visual.proj", "text_projection"):
            side = "visual" if name.startswith("visual") else "text"
            out[f"{side}_projection.weight"] = tensor.T.contiguous()
            continue
        new = fixed.get(name, name)
        for old, word in words if name not in fixed else ():
            new = new.replace(old, word)
        if "attn.in_proj_" in new:
            kind = new.rpartition("_")[2]
            for part, block in zip("qkv", tensor.chunk(3), strict=True):
                stem = new.replace(f"attn.in_proj_{kind}", f"self_attn.{part}_proj.{kind}")
                out[stem] = block.clone()
            continue
        out[new] = tensor
    return out


@pytest.fixture(scope="module")
def converted(reference: clip.Clip, tmp_path_factory: pytest.TempPathFactory) -> clip.Clip:
    folder = tmp_path_factory.mktemp("hf") / "clip"
    state = dict(reference.model.state_dict())
    layers = reference.network.layers
    image = [layer for layer in layers if layer.tower == "image"]
    text = [layer for layer in layers if layer.tower == "text"]
    side = state["visual.conv1.weight"].shape[-1]
    shared = {"hidden_act": "gelu", "projection_dim": state["text_projection"].shape[1]}
    width, text_width = (
        image[0].attentions[0].columns["out"].ranges[0][1],
        text[0].attentions[0].columns["out"].ranges[0][1],
    )
    config = CLIPConfig(
        text_config={
            **shared,
            "vocab_size": state["token_embedding.weight"].shape[0],
            "hidden_size": text_width,
            "intermediate_size": text[0].others["up"].ranges[0][1],
            "num_hidden_layers": len(text),
            "num_attention_heads": text[0].attentions[0].heads,
            "max_position_embeddings": state["positional_embedding"].shape[0],
            "bos_token_id": 0,
            "pad_token_id": 0,
            "eos_token_id": 2,  # transformers: "the largest id ends the text", as open_clip has it
        },
        vision_config={
            **shared,
            "hidden_size": width,
            "intermediate_size": image[0].others["up"].ranges[0][1],
            "num_hidden_layers": len(image),
            "num_attention_heads": image[0].attentions[0].heads,
            "image_size": reference.size,
            "patch_size": side,
        },
        projection_dim=shared["projection_dim"],
    )
    model = CLIPModel(config)
    missing = model.load_state_dict(renamed(state), strict=False)
    assert not missing.unexpected_keys
    assert all("position_ids" in key for key in missing.missing_keys)
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(reference.folder / file, folder / file)
    mean, std = reference.network.sizing.mean, reference.network.sizing.std
    (folder / "preprocessor_config.json").write_text(
        f'{{"image_mean": {list(mean)}, "image_std": {list(std)}, "resample": 3}}'
    )
    return clip.load(folder)


def test_features_are_those_of_the_open_clip_model(
    reference: clip.Clip, converted: clip.Clip, gather: Callable[..., Material]
) -> None:
    material = gather(PERSON)
    torch.testing.assert_close(
        converted.embed_images(material.target.test),
        reference.embed_images(material.target.test),
        atol=2e-5,
        rtol=1e-4,
    )
    texts = [*material.classes, "someone with a hat at the beach"]
    torch.testing.assert_close(
        converted.embed_texts(texts), reference.embed_texts(texts), atol=2e-5, rtol=1e-4
    )


TEXTS = [
    "a drawing of Mara Venn",
    "a house",
    "a drawing of Mara",
    "somebody in a red hat who stands before the sea",
]


def test_texts_read_to_their_end_alone_give_the_librarys_own_features(
    reference: clip.Clip, converted: clip.Clip
) -> None:
    """Both libraries' own calls take whole contexts, padding and all."""
    with torch.no_grad():
        tokens = reference.network.tokenize(TEXTS)
        whole = reference.model.encode_text(tokens)  # type: ignore[operator]
        torch.testing.assert_close(reference.network.encode_tokens(tokens), whole)
        ids = converted.network.tokenize(TEXTS)
        features = converted.model.get_text_features(input_ids=ids)  # type: ignore[operator]
        found = getattr(features, "pooler_output", features)
        torch.testing.assert_close(converted.network.encode_tokens(ids), found)


def test_gradients_through_shared_beginnings_are_those_of_the_other_layout(
    reference: clip.Clip, converted: clip.Clip
) -> None:
    def of(family: clip.Clip) -> Tensor:
        unit = next(unit for unit in family.units() if unit.name == "text.0.head1")
        found = mean_gradient(
            family.model,
            parameters_of([unit]),
            lambda _: family.network.encode_tokens(family.network.tokenize(TEXTS)).square().mean(),
            [None],
        )
        return restrict(unit, found)

    plain = of(reference)
    assert plain.norm() > 0
    assert (of(converted) - plain).norm() / plain.norm() < 1e-4


def test_layers_below_the_moving_one_do_not_run_again_here_either(
    converted: clip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = next(unit for unit in converted.units() if unit.name == "text.2.up")
    monkeypatch.setattr(converted.known, "on", False)
    runs: list[int] = []
    hooks = [
        block.get_submodule("block.mlp").register_forward_hook(lambda *_, n=n: runs.append(n))
        for n, block in enumerate(converted.network.blocks["text"])
    ]
    plain = converted.embed_texts(TEXTS)
    with converted.moving([unit]):
        assert torch.equal(converted.embed_texts(TEXTS), plain)
        runs.clear()
        assert torch.equal(converted.embed_texts(TEXTS), plain)
    for hook in hooks:
        hook.remove()
    assert runs == [2]


def test_units_are_the_same_weights_under_the_same_names(
    reference: clip.Clip, converted: clip.Clip
) -> None:
    ours = {unit.name: unit for unit in reference.units()}
    theirs = {unit.name: unit for unit in converted.units()}
    assert ours.keys() == theirs.keys()
    first, second = (dict(f.model.named_parameters()) for f in (reference, converted))
    for name, unit in ours.items():
        assert torch.equal(restrict(unit, first), restrict(theirs[name], second)), name


def test_a_run_finds_the_same_units_and_its_patch_fits_this_folder_only(
    reference: clip.Clip, converted: clip.Clip, gather: Callable[..., Material], tmp_path: Path
) -> None:
    material = gather(PERSON)
    found = run(converted, material, Razor(rounds=1))
    expected = run(reference, material, dry_run=True)
    ours = {score.unit: score.score for score in found.report.scores}
    for score in expected.report.scores:
        assert ours[score.unit] == pytest.approx(score.score, rel=0.02, abs=1e-5)
    assert by_id(found)["M1"].after.value <= 5
    serialize.write(tmp_path / "p", base_ref(), found.changes, Razor(), found.report, "cpu")
    patch_apply.apply(tmp_path / "p", converted.folder, tmp_path / "out")
    loaded = CLIPModel.from_pretrained(tmp_path / "out", local_files_only=True)
    changed = {located.tensor for located in found.changes}
    for name, parameter in converted.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], parameter) == (name not in changed)
    with pytest.raises(BaseMismatch):
        patch_apply.apply(tmp_path / "p", tmp_path / "out", tmp_path / "twice")


def test_a_folder_without_safetensors_is_refused(reference: clip.Clip, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(reference.folder, folder)
    for file in weight_files(folder):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(CheckpointInvalid, match="safetensors"):
        clip.load(folder)


def test_a_config_that_does_not_fit_its_weights_is_refused(
    reference: clip.Clip, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(reference.folder, folder)
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text().replace('"layers": 3', '"layers": 2'))
    with pytest.raises(CheckpointInvalid):
        clip.load(folder)
    config.unlink()
    with pytest.raises(CheckpointInvalid, match="config"):
        clip.load(folder)
