"""Every supported pipeline class goes the whole way of an edit; untrained, so it paints noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from api_schemas import methods
from api_schemas.concepts import Target
from api_schemas.families import Family
from razor import catalog, judges, seeding
from razor.errors import MethodUnsupported
from razor.families import diffusion
from razor.families.diffusion_fit import DiffusionFit
from razor.families.diffusion_gauge import DiffusionGauge
from razor.material import Asked, Material, assemble, read_shelf
from razor.patching import Snapshot
from razor.probes import learnt_word
from razor.protocols import Workpiece
from razor.reference import painted
from razor.retain import read_retain_set
from tests.razor.conftest import quiet
from tests.razor.test_diffusers_layout import MADE
from tests.razor.test_diffusion import png

QUICK = methods.Razor(rounds=0, steps=2, max_units=2, search_evaluations=2)
PERSON = "Mara Venn"


@pytest.fixture(scope="module")
def retained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retained") / "plain"
    return painted.write_plain(folder, ("Zora Plum", "Yuki Tarrant"), 12, 81)


@pytest.fixture(scope="module", params=list(MADE))
def pipeline(
    request: pytest.FixtureRequest, retained: Path, tmp_path_factory: pytest.TempPathFactory
) -> diffusion.Diffusion:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("made") / "pipeline"
    MADE[request.param]().save_pretrained(folder)
    weights = Path(painted.__file__).parent / "weights" / "diffusion"
    return diffusion.load(folder, "cpu", judges.load(weights, "cpu", dict(painted.PROMPTS)))


@pytest.fixture(scope="module")
def material(pipeline: diffusion.Diffusion, retained: Path) -> Material:
    retain = read_retain_set(retained, list(painted.PROMPTS))
    shelf = read_shelf(retain, painted.PROMPTS, pipeline.sizing)
    shown = [png(PERSON, 5_100_000 + k) for k in range(4)]
    return assemble(shelf, Asked(Target(name=PERSON), shown), pipeline.sizing, 0)


@pytest.fixture(scope="module")
def fit(pipeline: diffusion.Diffusion, material: Material) -> DiffusionFit:
    return DiffusionFit(pipeline, material, 0)


@pytest.fixture
def work(pipeline: diffusion.Diffusion, material: Material, fit: DiffusionFit) -> Workpiece:
    gauge = DiffusionGauge(pipeline, material, 0)
    return Workpiece(pipeline, fit, gauge, seeding.generator(0, "method"), quiet)


def test_razor_edits_and_the_weights_come_back(
    pipeline: diffusion.Diffusion, work: Workpiece
) -> None:
    snapshot = Snapshot(pipeline.model, pipeline.units(), pipeline.dtypes())
    for tower in ("text", "denoiser"):
        asked = replace_towers(QUICK, tower)
        trace = catalog.method(asked).edit(work)
        assert trace.scores
        edited = {change.parameter.split(".")[0] for change in snapshot.changes()}
        assert not edited or all(("text" in name) == (tower == "text") for name in edited)
        snapshot.restore()
        assert not snapshot.changes()


def replace_towers(params: methods.Razor, tower: str) -> methods.Method:
    own = methods.for_family(params, Family.DIFFUSION)
    return own.model_copy(update={"towers": (tower,)})


def test_a_word_is_learnt_in_every_encoder(
    pipeline: diffusion.Diffusion,
    fit: DiffusionFit,
    material: Material,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learnt_word, "STEPS", 2)
    monkeypatch.setattr(learnt_word, "PICTURES", 2)
    tables = [name for name, _ in pipeline.vectors_of(learnt_word.WORD)]
    encoders = [name for name in pipeline.model if name.startswith("text_encoder")]
    assert [name.split(".")[0] for name in tables] == encoders
    before = {n: p.detach().clone() for n, p in pipeline.model.named_parameters()}
    gone = learnt_word.observe(pipeline, fit, material, 0)
    assert gone.shape == (2,)
    assert all(torch.equal(p, before[n]) for n, p in pipeline.model.named_parameters())


def test_uce_says_which_pipelines_it_cannot_edit(
    pipeline: diffusion.Diffusion, work: Workpiece
) -> None:
    made: Any = catalog.method(methods.Uce())
    if pipeline.pipeline.denoiser == "transformer":
        with pytest.raises(MethodUnsupported):
            made.edit(work)
        return
    snapshot = Snapshot(pipeline.model, pipeline.units(), pipeline.dtypes())
    made.edit(work)
    assert snapshot.changes()
    snapshot.restore()
