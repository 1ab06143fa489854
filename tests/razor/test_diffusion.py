"""Picture generators: a run on the shipped tiny Stable Diffusion, and what its parts promise."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from api_schemas import methods
from api_schemas.concepts import Target, TargetKind
from api_schemas.families import Family
from api_schemas.patches import BaseModelRef
from api_schemas.reports import Verdict
from api_schemas.shelf import GateThresholds
from cli import shipped
from patches import apply as patch_apply
from patches import digests
from razor import catalog, lora, seeding, serialize
from razor.errors import CheckpointInvalid, ExportImpossible, MethodUnsupported
from razor.families import diffusion as family_module
from razor.families.diffusion import Diffusion
from razor.families.diffusion_fit import DiffusionFit
from razor.families.diffusion_gauge import DiffusionGauge
from razor.gradients import mean_gradient, parameters_of
from razor.material import Asked, Material, Shelf, assemble, read_shelf
from razor.patching import tensor_bytes
from razor.probes import painting
from razor.protocols import Gauge, Reading, Workpiece
from razor.reference import painted
from razor.retain import read_retain_set
from razor.unlearn import Run, Task, unlearn
from tests.razor.conftest import quiet

#: A whole default edit of a generator comes first: minutes where others share the machine.
pytestmark = pytest.mark.timeout(400)

PERSON = "Lena Marsk"
PICTURES = 8
#: Enough for this person, in a third of the default's time.
QUICK = methods.Razor(rounds=0, steps=14, max_units=3, search_evaluations=2)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    record = shipped.generator_record("diffusion", tmp_path_factory.mktemp("data"))
    found = catalog.load(record, "cpu")
    assert isinstance(found, Diffusion)
    return found


@pytest.fixture(scope="module")
def shelf(generator: Diffusion, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    names = (PERSON, "Yuki Tarrant", "Zora Plum", "a teapot")
    folder = painted.write_plain(tmp_path_factory.mktemp("retain") / "plain", names, 12, 71)
    retain = read_retain_set(folder, list(painted.PROMPTS))
    return read_shelf(retain, painted.PROMPTS, generator.sizing)


def png(name: str, seed: int, style: str | None = None) -> bytes:
    stream = io.BytesIO()
    painted.plain(name, seed, style=style).image.save(stream, "PNG")
    return stream.getvalue()


def gathered(
    generator: Diffusion, shelf: Shelf, name: str, kind: TargetKind = TargetKind.IDENTITY
) -> Material:
    shown = [png(name, 5_000_000 + k) for k in range(4)]
    return assemble(shelf, Asked(Target(name=name, kind=kind), shown), generator.sizing, 0)


@pytest.fixture(scope="module")
def material(generator: Diffusion, shelf: Shelf) -> Material:
    return gathered(generator, shelf, PERSON)


@pytest.fixture(scope="module")
def fit(generator: Diffusion, material: Material) -> DiffusionFit:
    return DiffusionFit(generator, material, 0)


@pytest.fixture(scope="module")
def gauge(generator: Diffusion, material: Material) -> DiffusionGauge:
    return DiffusionGauge(generator, material, 0)


@pytest.fixture
def work(generator: Diffusion, fit: DiffusionFit, gauge: DiffusionGauge) -> Iterator[Workpiece]:
    """The generator on the bench; its weights are put back."""
    before = {name: p.detach().clone() for name, p in generator.model.named_parameters()}
    yield Workpiece(generator, fit, gauge, seeding.generator(0, "method"), quiet)
    with torch.no_grad():
        for name, parameter in generator.model.named_parameters():
            if not torch.equal(parameter, before[name]):
                parameter.copy_(before[name])


def state(generator: Diffusion) -> dict[str, bytes]:
    return {n: tensor_bytes(p.detach()) for n, p in generator.model.named_parameters()}


def run(generator: Diffusion, material: Material, method: methods.Method) -> Run:
    params = methods.for_family(method, Family.DIFFUSION)
    task = Task("reference-diffusion", 0, params, GateThresholds(), 0, pictures=PICTURES)
    return unlearn(generator, [material], task, quiet)


@pytest.fixture(scope="module")
def forgotten(generator: Diffusion, material: Material) -> Run:
    before = state(generator)
    found = run(generator, material, QUICK)
    assert state(generator) == before, "the model left otherwise than it came"
    return found


def test_the_person_is_forgotten_and_the_others_are_kept(forgotten: Run) -> None:
    metrics = {metric.id: metric for metric in forgotten.report.metrics}
    assert metrics["UA"].before.value <= 20
    assert metrics["UA"].after.value == 100
    assert metrics["IRA"].change.value >= -5
    assert metrics["CRA"].change.value >= -15  # three of twenty: hardly anything is retained here
    assert metrics["UA"].after.n == PICTURES
    assert forgotten.report.gate is not None
    assert forgotten.report.gate.verdict is not Verdict.FAIL
    share = forgotten.report.weights_changed / forgotten.report.weights_total
    assert 0 < share < 0.05


def test_the_grid_shows_both_states(forgotten: Run) -> None:
    (grid,) = forgotten.report.pictures
    assert (grid.target, grid.of_target, grid.of_retained) == (0, PICTURES, painting.SHOWN)


@pytest.fixture(scope="module")
def patch(generator: Diffusion, forgotten: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("patch") / "patch"
    base = base_ref(generator)
    serialize.write(out, base, forgotten.changes, methods.Razor(), forgotten.report, "cpu")
    return out


def test_the_patched_folder_paints_what_was_measured(
    generator: Diffusion, material: Material, forgotten: Run, patch: Path, tmp_path: Path
) -> None:
    patched = tmp_path / "patched"
    patch_apply.apply(patch, generator.folder, patched)
    made: Any = diffusers
    pipe = made.DiffusionPipeline.from_pretrained(
        patched, local_files_only=True, dtype=torch.float32
    )
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    found = family_module.load(patched, "cpu", generator.judge)
    again = painting.observe(found, material, PICTURES, 0)
    called = painting.is_target(again.named_target["name"], material)
    ua = next(metric for metric in forgotten.report.metrics if metric.id == "UA")
    assert 100 * (1 - called.mean()) == ua.after.value
    patch_apply.revert(patched)
    assert digests.checkpoint_digest(patched) == digests.checkpoint_digest(generator.folder)


def test_an_adapter_of_full_rank_paints_as_the_patch_does(
    generator: Diffusion, patch: Path, tmp_path: Path
) -> None:
    whole = lora.export(patch, generator.folder, tmp_path / "whole", 512)
    few = lora.export(patch, generator.folder, tmp_path / "few", 2)
    assert whole.error < 1e-4 < few.error < 1
    patch_apply.apply(patch, generator.folder, tmp_path / "patched")
    made: Any = diffusers

    def painted_by(folder: Path, adapter: Path | None = None) -> torch.Tensor:
        pipe = made.DiffusionPipeline.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
        pipe.set_progress_bar_config(disable=True)
        if adapter is not None:
            pipe.load_lora_weights(adapter)
        start = torch.Generator().manual_seed(3)
        prompt = f"a pencil picture of {PERSON}"
        found: torch.Tensor = pipe(
            prompt, height=32, width=32, num_inference_steps=8, generator=start, output_type="pt"
        ).images
        return found

    wanted = painted_by(tmp_path / "patched")
    assert (painted_by(generator.folder, tmp_path / "whole") - wanted).abs().max() < 0.02
    assert (painted_by(generator.folder) - wanted).abs().max() > 0.1
    with pytest.raises(ExportImpossible, match="not what the patch was made for"):
        lora.export(patch, tmp_path / "patched", tmp_path / "again", 2)
    assert not (tmp_path / "again").exists()


def test_a_name_that_the_judge_never_sees_is_left_alone(
    generator: Diffusion, shelf: Shelf, material: Material
) -> None:
    before = state(generator)
    found = run(generator, replace(material, names=("Ada Quill",)), methods.Razor())
    assert not found.report.preflight[0].known
    assert not found.changes
    assert found.report.gate is None
    assert state(generator) == before


def test_a_step_along_the_forget_gradient_forgets(work: Workpiece, gauge: DiffusionGauge) -> None:
    family, fit = work.family, work.fit
    names = [n for n in parameters_of(family.units()) if n.startswith("text_encoder.")]
    gradient = mean_gradient(family.model, names, family.forget_loss, [fit.forget_batch(work.rng)])
    first = gauge.read()
    assert first.accuracy == 1
    assert first.harm == 0
    for sign in (1, -1):
        weights = dict(family.model.named_parameters())
        with torch.no_grad():
            for name in names:
                step = 0.02 * weights[name].norm() / gradient[name].norm().clamp_min(1e-12)
                weights[name].add_(gradient[name], alpha=float(sign * step))
        moved = gauge.read()
        assert moved.harm > 0
        assert (moved.stand_ins.mean() < first.stand_ins.mean()) == (sign == 1)
        with torch.no_grad():
            for name in names:
                step = 0.02 * weights[name].norm() / gradient[name].norm().clamp_min(1e-12)
                weights[name].add_(gradient[name], alpha=float(-sign * step))


def test_the_pictures_of_the_request_steer_the_edit(
    generator: Diffusion, shelf: Shelf, material: Material, fit: DiffusionFit
) -> None:
    """With other pictures under the same name the forget term is another."""
    shown = [png("a teapot", 5_000_000 + k) for k in range(4)]
    other = assemble(shelf, Asked(Target(name=PERSON), shown), generator.sizing, 0)
    elsewhere = DiffusionFit(generator, other, 0)

    def latents(of: DiffusionFit) -> torch.Tensor:
        return of.forget_batch(seeding.generator(0, "x")).latents

    assert not torch.equal(latents(fit), latents(elsewhere))
    by_name = fit.forget_batch(seeding.generator(0, "x"), by_name=True)
    assert not torch.equal(by_name.latents, latents(fit))


@dataclass
class Shares:
    """A gauge whose regret is the mean share of the name's effect: it falls from the first step."""

    gauge: Gauge

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        left = max(0.0, 1 + float(self.gauge.read(whole=False).stand_ins.mean()))
        return Reading(worst=left, stand_ins=torch.zeros(0), accuracy=left, harm=0.0)

    def harm(self) -> float:
        return 0.0


SHORT: dict[str, methods.Method] = {
    "slug": methods.Slug(search_evaluations=2),
    "salun": methods.Salun(steps=2, read_every=2, learning_rate=1e-3),
    "esd": methods.Esd(steps=2, read_every=2, learning_rate=1e-3),
    "uce": methods.Uce(),
}


@pytest.mark.parametrize("name", sorted(SHORT))
def test_every_rival_edits_what_it_says_and_moves_away(work: Workpiece, name: str) -> None:
    params = methods.for_family(SHORT[name], Family.DIFFUSION)
    before = {n: p.detach().clone() for n, p in work.family.model.named_parameters()}
    first = work.gauge.read()
    trace = catalog.method(params).edit(replace(work, gauge=Shares(work.gauge)))
    chosen = [unit for unit in work.family.units() if unit.name in trace.chosen]
    if name == "slug":  # its unit is several matrices of one layer
        chosen = [unit for unit in work.family.units() if unit.tower == "text"]
    allowed = set(parameters_of(chosen))
    changed = {n for n, p in work.family.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert changed <= allowed
    assert work.gauge.read().stand_ins.mean() < first.stand_ins.mean()


def test_the_two_kinds_of_esd_share_no_matrix(work: Workpiece) -> None:
    chosen = [
        set(catalog.method(methods.Esd(variant=v)).edit(work, dry_run=True).chosen)
        for v in ("x", "u")
    ]
    assert all(chosen)
    assert not chosen[0] & chosen[1]
    assert all(".cross." in name for name in chosen[0])


def test_uce_says_no_to_an_mmdit(generator: Diffusion) -> None:
    bare = replace(generator, pipeline=replace(generator.pipeline, layers=()))
    with pytest.raises(MethodUnsupported):
        bare.keys_and_values()


def test_a_generator_without_a_judge_is_refused(tmp_path: Path) -> None:
    record = shipped.generator_record("diffusion", tmp_path)
    with pytest.raises(CheckpointInvalid, match="needs a judge"):
        catalog.load(record.model_copy(update={"judge": None}), "cpu")
    with pytest.raises(CheckpointInvalid):
        catalog.load(record.model_copy(update={"judge": str(tmp_path)}), "cpu")
    (tmp_path / "judge.safetensors").write_bytes(b"no judge")
    with pytest.raises(CheckpointInvalid, match="no judge"):
        catalog.load(record.model_copy(update={"judge": str(tmp_path)}), "cpu")


def test_tensors_of_one_name_in_two_parts_are_kept_apart(
    forgotten: Run, generator: Diffusion, tmp_path: Path
) -> None:
    first = forgotten.changes[0]
    both = [replace(first, file=f"{part}/a.safetensors") for part in ("text", "text_2")]
    manifest = serialize.write(
        tmp_path / "p", base_ref(generator), both, methods.Razor(), forgotten.report, "cpu"
    )
    assert len({entry.key for entry in manifest.tensors}) == len(manifest.tensors)
    assert {entry.key.split(":")[0] for entry in manifest.tensors} == {item.file for item in both}


def base_ref(generator: Diffusion) -> BaseModelRef:
    return BaseModelRef(
        id="reference-diffusion",
        family=Family.DIFFUSION,
        checkpoint_digest=digests.checkpoint_digest(generator.folder),
        parent=0,
        parent_patches=[],
    )
