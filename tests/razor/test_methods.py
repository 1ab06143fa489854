"""What RAZOR is compared with: each method does what its name says, and keeps its best state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from api_schemas import methods
from api_schemas.concepts import Target
from api_schemas.families import Family as FamilyName
from api_schemas.shelf import GateThresholds
from razor import catalog, seeding, zero_shot
from razor.errors import Cancelled, EditDiverged
from razor.families import clip
from razor.families.clip_fit import ClipFit
from razor.families.clip_gauge import ClipGauge
from razor.gradients import mean_gradient, parameters_of
from razor.material import Asked, Material, Shelf, assemble
from razor.methods.grids import GRIDS
from razor.methods.razor import _Run
from razor.methods.salun import salient
from razor.methods.slug import search
from razor.methods.ssd import dampening
from razor.methods.training import Loop, copied, forget_gradient
from razor.patching import DTYPES, Snapshot, tensor_bytes
from razor.protocols import Reading, Trace, Workpiece
from razor.reference import people
from razor.unlearn import Task, unlearn
from tests.conftest import SAMPLE_SEED, UNSEEN_SEED
from tests.razor.conftest import quiet, run

PERSON = "Lena Marsk"
RETAINED = [name for name in people.NAMES if name != PERSON][:6]
SHORT: dict[str, methods.Method] = {
    "slug": methods.Slug(search_evaluations=3),
    "ga": methods.Ascent(method="ga", steps=2, learning_rate=1e-4),
    "ft": methods.Ascent(method="ft", steps=2, learning_rate=1e-4),
    "gaft": methods.Ascent(method="gaft", steps=2, learning_rate=1e-4),
    "salun": methods.Salun(steps=2, learning_rate=1e-4),
    "ssd": methods.Ssd(batch_size=64),
}


def read(accuracy: float, harm: float = 0.0) -> Reading:
    return Reading(worst=0.0, stand_ins=torch.zeros(0), accuracy=accuracy, harm=harm)


@dataclass
class Bench:
    """One target on the reference model, whose weights are put back after each test."""

    family: clip.Clip
    material: Material
    fit: ClipFit
    gauge: ClipGauge

    def edit(
        self,
        params: methods.Method,
        *,
        family: Any = None,
        gauge: Any = None,
        seed: int = 0,
        dry_run: bool = False,
    ) -> Trace:
        rng = seeding.generator(seed, "method")
        method = catalog.method(params)
        work = Workpiece(family or self.family, self.fit, gauge or self.gauge, rng, quiet)
        return method.edit(work, dry_run=dry_run)

    def matrices(self) -> tuple[str, ...]:
        return parameters_of(unit for unit in self.family.units() if unit.kind == "matrix")

    def weights(self) -> dict[str, Tensor]:
        return copied(dict(self.family.model.named_parameters()))

    @torch.no_grad()
    def put(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in self.family.model.named_parameters():
            tensor.copy_(weights[name])

    def recognised(self) -> float:
        """M1 / 100, on test pictures."""
        classes = zero_shot.class_embeddings(
            self.family, self.material.classes, self.material.templates["name"]
        )
        found = zero_shot.predict(self.family.embed_images(self.material.target.test), classes)
        return float((found < len(self.material.names)).float().mean())

    def kept(self) -> float:
        """M4 / 100, on test pictures."""
        classes = zero_shot.class_embeddings(
            self.family, self.material.classes, self.material.templates["name"]
        )
        rows = self.material.retain_test
        found = zero_shot.predict(self.family.embed_images(rows.pixels), classes).tolist()
        right = [
            self.material.classes[i] == x for i, x in zip(found, rows.labels["name"], strict=True)
        ]
        return float(torch.tensor(right).float().mean())


@pytest.fixture(scope="module")
def prepared(reference: clip.Clip, shelf: Shelf, draw_png: Callable[[str, int], bytes]) -> Bench:
    """Six names to retain are enough here, and a fraction of the work."""
    names = {PERSON, *RETAINED}
    rows = [i for i, name in enumerate(shelf.rows.labels["name"]) if name in names]
    small = replace(
        shelf, rows=shelf.rows.take(rows), digests=tuple(shelf.digests[i] for i in rows)
    )
    samples = [draw_png(PERSON, SAMPLE_SEED + i) for i in range(8)]
    unseen = [draw_png(PERSON, UNSEEN_SEED + i) for i in range(16)]
    asked = Asked(Target(name=PERSON), samples, unseen)
    material = assemble(small, asked, reference.network.sizing, 0)
    fit = ClipFit(reference, material, 0)
    return Bench(reference, material, fit, ClipGauge(reference, material, fit.neighbours, 0))


@pytest.fixture
def bench(prepared: Bench) -> Iterator[Bench]:
    units = prepared.family.units()
    snapshot = Snapshot(prepared.family.model, units, {})
    yield prepared
    snapshot.restore()


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    return [name for name in before if not torch.equal(before[name], after[name])]


class Improving:
    """A gauge that finds every state better than the one before, so that the last one is kept."""

    def __init__(self) -> None:
        self.left = 1.0

    def read(self, *, whole: bool = False) -> Reading:
        self.left /= 2
        return read(self.left)


def test_the_catalog_lists_every_name_and_builds_it() -> None:
    both, clip_only = ["razor", "slug", "salun"], ["ga", "ft", "gaft", "ssd"]
    listed = methods.catalog()
    assert {view.method for view in listed} == {*both, *clip_only, "esd", "uce"}
    assert set(methods.names(FamilyName.CLIP)) == {*both, *clip_only}
    assert set(methods.names(FamilyName.DIFFUSION)) == {*both, "esd", "uce"}
    assert set(methods.names(FamilyName.VLM)) == {*both, "ga", "ft", "gaft"}
    for view in listed:
        properties: Any = view.parameters["properties"]
        assert properties.pop("method")["const"] == view.method
        assert all("default" in each and each["description"] for each in properties.values())
    assert [catalog.method(params).params for params in SHORT.values()] == list(SHORT.values())  # type: ignore[attr-defined]


def test_grids_share_one_budget_and_hold_the_default() -> None:
    assert set(GRIDS) == set(methods.names(FamilyName.CLIP)) - {"razor"}
    for name, grid in GRIDS.items():
        assert 1 < len(set(grid)) == len(grid) <= 6
        assert {params.method for params in grid} == {name}
        default = type(grid[0]).model_validate({"method": name})
        assert default in grid
        budgets = [{k: v for k, v in params if k in {"steps", "read_every"}} for params in grid]
        assert all(budget == budgets[0] for budget in budgets)


def test_what_is_not_set_is_at_the_familys_own_default() -> None:
    plain, asked = methods.Razor(), methods.Razor(tau=0.7, towers=("denoiser",))
    assert methods.for_family(plain, FamilyName.CLIP) == plain
    own = methods.for_family(plain, FamilyName.DIFFUSION)
    wanted = methods.DEFAULTS[FamilyName.DIFFUSION]["razor"]
    assert own.model_dump(include=set(wanted)) == wanted != plain.model_dump(include=set(wanted))
    kept = methods.for_family(asked, FamilyName.DIFFUSION)
    assert isinstance(kept, methods.Razor)
    assert (kept.tau, kept.towers) == (0.7, ("denoiser",))
    assert methods.for_family(kept, FamilyName.DIFFUSION) == kept
    for name, changes in methods.DEFAULTS[FamilyName.DIFFUSION].items():
        cls = next(c for c in methods.METHODS if c.model_fields["method"].default == name)
        cls.model_validate({"method": name, **changes})  # every default is one that can be asked


@pytest.mark.parametrize("name", SHORT)
def test_a_run_leaves_the_model_as_it_came_and_repeats_bit_for_bit(bench: Bench, name: str) -> None:
    before = bench.weights()
    result = run(bench.family, bench.material, SHORT[name])
    assert changed(before, bench.weights()) == []
    assert all(tensor.grad is None for tensor in bench.family.model.parameters())
    assert result.report.method == name
    bench.edit(SHORT[name])
    again = bench.weights()
    changes = [located.change for located in result.changes]
    assert {change.parameter for change in changes} <= set(changed(before, again))
    assert bool(changes) == (changed(before, again) != [])
    for change in changes:
        rounded = again[change.parameter].to(DTYPES[change.dtype])
        assert tensor_bytes(rounded) == change.after


@pytest.mark.parametrize("name", SHORT)
def test_a_dry_run_changes_nothing_and_names_units(bench: Bench, name: str) -> None:
    before = bench.weights()
    trace = bench.edit(SHORT[name], dry_run=True)
    assert changed(before, bench.weights()) == []
    assert set(trace.chosen) <= {unit.name for unit in bench.family.units()}
    assert trace.chosen


# ---- the loop --------------------------------------------------------------------------------


class Line(nn.Module):
    """One weight, at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))


@dataclass
class OneWeight:
    """As much of a family as the loop asks for."""

    model: Line


@dataclass
class Near:
    """Regrets the distance of the weight from a place."""

    model: Line
    place: float
    seen: int = 0

    def read(self, *, whole: bool = False) -> Reading:
        self.seen += 1
        return read(abs(float(self.model.w.detach()) - self.place))


def descend(place: float, tick: Any = quiet, steps: int = 40, read_every: int = 1) -> Near:
    """Falls from 1 by 0.1 a step."""
    model = Line()
    gauge = Near(model, place)
    loop = Loop(OneWeight(model), ("w",), gauge, tick, 0.1, steps, read_every)  # type: ignore[arg-type]
    best = loop.run([lambda: {"w": torch.ones(1)}])
    assert best.regret() == pytest.approx(abs(float(model.w.detach()) - place))
    assert model.w.grad is None
    return gauge


@pytest.mark.parametrize(
    ("place", "found"),
    [(0.5, 0.5), (2.0, 1.0), (-100.0, 1 - 0.1 * 40)],
    ids=["on the way", "standing still", "the last"],
)
def test_the_best_state_seen_is_kept(place: float, found: float) -> None:
    assert float(descend(place).model.w.detach()) == pytest.approx(found, abs=0.05)


def test_the_last_state_is_read_even_between_two_readings() -> None:
    gauge = descend(-100.0, steps=7, read_every=3)
    assert gauge.seen == 1 + 3
    assert float(gauge.model.w.detach()) == pytest.approx(0.3, abs=0.05)


def test_a_caller_who_cancels_is_heard_between_steps() -> None:
    fractions: list[float] = []

    def tick(phase: str, fraction: float, figures: Mapping[str, float]) -> None:
        fractions.append(fraction)
        if len(fractions) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        descend(-100.0, tick, steps=10)
    assert fractions == pytest.approx([0.0, 0.1, 0.2])


# ---- GA, FT, GAFT ----------------------------------------------------------------------------


def test_ga_forgets(bench: Bench) -> None:
    before = bench.recognised()
    bench.edit(methods.Ascent(method="ga", learning_rate=1e-4, steps=8, read_every=1))
    assert before > 0.8
    assert bench.recognised() < before / 3


def test_ascending_the_wrong_way_is_never_kept(bench: Bench) -> None:
    """The control of the test above: with the sign turned, standing still is best."""

    class Backwards:
        def __getattr__(self, name: str) -> Any:
            return getattr(bench.family, name)

        def forget_loss(self, batch: Any) -> Tensor:
            return -bench.family.forget_loss(batch)

    before = bench.weights()
    params = methods.Ascent(method="ga", learning_rate=1e-4, steps=4, read_every=1)
    bench.edit(params, family=Backwards())
    assert changed(before, bench.weights()) == []


def test_ft_keeps_and_hardly_forgets(bench: Bench) -> None:
    known, kept = bench.recognised(), bench.kept()
    params = methods.Ascent(method="ft", learning_rate=1e-4, steps=4, read_every=2)
    bench.edit(params, gauge=Improving())  # the last state, not the start
    assert bench.kept() >= kept - 0.02
    assert bench.recognised() > known / 2


def test_gaft_harms_less_than_ga_where_both_forget(bench: Bench) -> None:
    found = {}
    start, start_accuracy = bench.weights(), bench.gauge.read().accuracy
    for name, steps in (("ga", 6), ("gaft", 12)):
        params = methods.Ascent(method=name, learning_rate=2e-4, steps=steps, read_every=1)
        bench.edit(params, gauge=Improving())
        found[name] = bench.gauge.read()
        bench.put(start)
    assert max(reading.accuracy for reading in found.values()) < 0.1 < start_accuracy
    assert found["gaft"].harm < found["ga"].harm


# ---- SalUn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_mask_holds_the_largest_share_over_all_parameters(share: float) -> None:
    rng = torch.Generator().manual_seed(1)
    gradients = {"a": torch.randn(30, 4, generator=rng), "b": 3 * torch.randn(80, generator=rng)}
    masks = salient(gradients, share)
    inside = [abs(float(g)) for n in gradients for g in gradients[n][masks[n]]]
    outside = [abs(float(g)) for n in gradients for g in gradients[n][~masks[n]]]
    assert len(inside) == round(share * 200)
    assert min(inside, default=math.inf) > max(outside, default=0.0)


def test_a_weight_without_gradient_is_never_salient() -> None:
    masks = salient({"a": torch.tensor([0.0, 0.0, 0.0, 2.0])}, 0.75)
    assert masks["a"].tolist() == [False, False, False, True]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_salun_leaves_every_unmasked_bit_alone(bench: Bench, share: float) -> None:
    names = bench.matrices()
    rng = seeding.generator(0, "method")
    masks = salient(forget_gradient(bench.family, bench.fit, names, rng), 0.3)
    before = bench.weights()
    params = methods.Salun(share=share, learning_rate=1e-3, steps=2, read_every=1)
    bench.edit(params, gauge=Improving())
    after = bench.weights()
    assert set(changed(before, after)) <= set(names)
    moved = {name: before[name] != after[name] for name in names}
    inside = sum(int(moved[name][masks[name]].sum()) for name in names)
    outside = sum(int(moved[name][~masks[name]].sum()) for name in names)
    assert inside > 0.9 * sum(int(mask.sum()) for mask in masks.values())
    # A mask of everything is the control: then weights outside the narrower one do move.
    assert (outside == 0) == (share == 0.3)


# ---- SSD -------------------------------------------------------------------------------------


def test_dampening_is_the_published_rule() -> None:
    rng = torch.Generator().manual_seed(2)
    concept, whole = torch.rand(200, generator=rng) ** 4, torch.rand(200, generator=rng) ** 4
    concept[0] = whole[1] = concept[2] = whole[2] = 0.0
    for alpha, strength in ((1.0, 1.0), (10.0, 1.0), (2.0, 3.0), (5.0, 0.0)):
        found = dampening(concept, whole, alpha, strength).tolist()
        expected = [
            min(strength * d / f, 1.0) if f > alpha * d else 1.0
            for f, d in zip(concept.tolist(), whole.tolist(), strict=True)
        ]
        assert found == pytest.approx(expected)
        assert min(found) < 1.0 == max(found)


def test_ssd_only_shrinks_and_draws_nothing(bench: Bench) -> None:
    before = bench.weights()
    params = methods.Ssd(alpha=2.0, batch_size=64)
    bench.edit(params, seed=0)
    after = bench.weights()
    touched = changed(before, after)
    assert touched
    assert set(touched) <= set(bench.matrices())
    for name in touched:
        assert bool((after[name].abs() <= before[name].abs()).all())
        assert bool((after[name] * before[name] >= 0).all())
    bench.put(before)
    bench.edit(params, seed=1)
    assert changed(after, bench.weights()) == []


def test_ssd_with_a_huge_alpha_changes_nothing(bench: Bench) -> None:
    before = bench.weights()
    trace = bench.edit(methods.Ssd(alpha=1e9, batch_size=64))
    assert changed(before, bench.weights()) == []
    assert trace.chosen == {}


# ---- SLUG ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_slug_changes_exactly_one_unit(bench: Bench, layers: int) -> None:
    before = bench.weights()
    start = bench.gauge.read()
    params = methods.Slug(search_evaluations=3, layers=layers, retain_aware=True)
    trace = bench.edit(params)
    after = bench.weights()
    (unit,) = [each for each in bench.family.units() if each.name in trace.chosen]
    assert changed(before, after) == list(parameters_of([unit]))
    moved = {name: before[name] != after[name] for name in parameters_of([unit])}
    inside = sum(int(region.of(moved[region.parameter]).sum()) for region in unit.regions)
    assert inside == sum(int(each.sum()) for each in moved.values())
    assert bench.gauge.read().regret() < start.regret()


def test_slug_with_regret_or_more_layers_is_never_worse_on_select(bench: Bench) -> None:
    regret = {}
    start = bench.weights()
    for layers, aware in ((1, False), (1, True), (2, True)):
        params = methods.Slug(search_evaluations=3, layers=layers, retain_aware=aware)
        bench.edit(params)
        regret[layers, aware] = bench.gauge.read().regret()
        bench.put(start)
    assert regret[2, True] <= regret[1, True] <= regret[1, False] < bench.gauge.read().regret()


def test_slug_that_finds_nothing_better_changes_nothing(bench: Bench) -> None:
    class Worse:
        def __init__(self) -> None:
            self.harmed = 0.0

        def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
            self.harmed += 1
            return read(1.0, self.harmed)

        def harm(self) -> float:
            return self.harmed

    before = bench.weights()
    bench.edit(methods.Slug(search_evaluations=3, layers=2), gauge=Worse())
    assert changed(before, bench.weights()) == []


@pytest.mark.parametrize("needed", [0.05, 0.3, 1.0, 7.0])
def test_the_search_doubles_and_then_bisects(needed: float) -> None:
    tried = search(lambda ratio: read(float(ratio < needed)), 0.1, 10)
    ratios = [each.ratio for each in tried]
    assert len(ratios) == 10
    doubled = next(i for i, ratio in enumerate(ratios) if ratio >= needed)
    assert ratios[: doubled + 1] == pytest.approx([0.1 * 2**i for i in range(doubled + 1)])
    enough = min(ratio for ratio in ratios if ratio >= needed)
    gap = (ratios[doubled] - (ratios[doubled - 1] if doubled else 0.0)) / 2 ** (9 - doubled)
    assert enough - needed <= gap + 1e-9


def test_the_cached_gradient_is_a_mean_of_draws(bench: Bench) -> None:
    name = bench.matrices()[0]
    found = forget_gradient(bench.family, bench.fit, [name], seeding.generator(3, "x"))
    rng = seeding.generator(3, "x")
    parts: Sequence[Tensor] = [
        mean_gradient(
            bench.family.model, [name], bench.family.forget_loss, [bench.fit.forget_batch(rng)]
        )[name]
        for _ in range(4)
    ]
    assert torch.allclose(found[name], torch.stack(list(parts)).mean(dim=0), atol=1e-7)


def test_an_edit_towards_the_name_is_an_error_unless_it_is_to_be_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service never publishes one; a comparison counts it like any other."""

    class Backwards:
        @torch.no_grad()
        def edit(self, work: Workpiece, *, dry_run: bool) -> Trace:
            family = work.family
            name = bench.matrices()[0]
            with torch.enable_grad():
                gradient = forget_gradient(family, work.fit, [name], work.rng)[name]
            parameter = dict(family.model.named_parameters())[name]
            parameter -= 0.02 * gradient * parameter.norm() / gradient.norm()
            unit = next(u for u in family.units() if u.kind == "matrix" and name in str(u.regions))
            return Trace((), {unit.name: 0})

    monkeypatch.setattr("razor.unlearn.catalog.method", lambda _: Backwards())
    task = Task("reference-clip", 0, SHORT["ga"], GateThresholds(), 0)
    with pytest.raises(EditDiverged, match="nearer"):
        unlearn(bench.family, [bench.material], task, quiet)
    found = unlearn(bench.family, [bench.material], replace(task, any_direction=True), quiet)
    (moved,) = [metric for metric in found.report.metrics if metric.id == "M2"]
    assert moved.change.value > 0


def test_adaptive_updates_are_adams() -> None:
    params = methods.Razor(adaptive=True, eps=1e-8)
    run = object.__new__(_Run)
    run.params, run.moments, run.updates = params, {}, 0
    weight = torch.nn.Parameter(torch.zeros(3, 4))
    adam = torch.optim.Adam([weight], lr=1.0, eps=1e-8)
    rng = torch.Generator().manual_seed(3)
    for _ in range(5):
        direction = torch.randn(3, 4, generator=rng)
        before, weight.grad = weight.detach().clone(), -direction
        adam.step()
        found = run._adapted({"weight": direction})["weight"]
        torch.testing.assert_close(found, weight.detach() - before, atol=1e-5, rtol=1e-5)
    run.params = methods.Razor()
    assert run._adapted({"weight": direction})["weight"] is direction


class Scripted:
    """A gauge that calls the concept gone after the first update, with these harms in turn."""

    def __init__(self, bench: Bench, harms: Sequence[float]) -> None:
        self._bench, self._harms = bench, iter(harms)
        self._reads, self._gone = 0, False
        self.states: dict[float, dict[str, Tensor]] = {}

    def read(self, *, whole: bool = False, harm: bool = True) -> Reading:
        self._reads += 1
        self._gone = self._reads > 1
        margin = -1.0 if self._gone else 1.0
        return Reading(worst=margin, stand_ins=torch.zeros(0), accuracy=0.0, harm=math.nan)

    def harm(self) -> float:
        if not self._gone:  # a step of the search: too long
            return 1.0
        self._gone = False
        found = next(self._harms)
        self.states[found] = self._bench.weights()
        return found


def test_of_the_states_that_forgot_the_least_harmful_is_kept(bench: Bench) -> None:
    gauge = Scripted(bench, (0.9, 0.3, 0.7))
    params = methods.Razor(steps=3, rounds=0, max_units=1, towers=("text",))
    bench.edit(params, gauge=gauge)
    assert len(gauge.states) == 3
    assert changed(gauge.states[0.3], bench.weights()) == []
    assert changed(gauge.states[0.9], bench.weights())
