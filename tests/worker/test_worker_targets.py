"""Whose pictures are whose, and what is known of the targets of earlier versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from api_schemas.requests import UnlearnRequest
from razor.material import Labelled, Shelf
from razor.pictures import Sizing
from registry import jobs
from registry.blobs import LocalBlobs
from registry.errors import BlobMissing, PersonalDataGone, SealBroken
from registry.installation import Keys
from registry.sealing import DataKey
from registry.subjects import subjects_of
from worker import failures, targets
from worker.warm import Warm

KEYS = Keys(bytes(range(32)))
NAMES = ("Mara Venn", "Oskar Brill")


@dataclass
class Made:
    """A job's stored pictures, and a warm model without weights: none are needed here."""

    blobs: LocalBlobs
    job: jobs.Job
    pictures: list[bytes]
    warm: Warm

    def past(self, *known: bool) -> list[targets.Past]:
        return [targets.Past(1, self.job, known)]


@pytest.fixture
def made(tmp_path: Path, draw_png: Callable[[str, int], bytes]) -> Made:
    """The first target has four samples and no probes, the second three samples and two probes."""
    blobs = LocalBlobs(tmp_path / "blobs")
    pictures = [draw_png(NAMES[number > 3], number) for number in range(9)]
    digests = tuple(blobs.put(picture) for picture in pictures)
    listed = [
        {"name": NAMES[0], "samples": 4},
        {"name": NAMES[1], "aliases": ["O. Brill"], "samples": 3, "probe_samples": 2},
    ]
    request = UnlearnRequest.model_validate({"model": "toy", "targets": listed, "seed": 3})
    return Made(blobs, job_of(request, digests[:7], digests[7:]), pictures, warm())


def job_of(
    request: UnlearnRequest,
    samples: tuple[str, ...],
    probes: tuple[str, ...],
    data_key: DataKey | None = None,
) -> jobs.Job:
    """As it is read while it may run; pictures without a key are in the clear."""
    fields = {"id": "job_1", "request": request, "samples": samples, "probe_samples": probes}
    subjects = subjects_of(request.wanted(), "tenant", KEYS).items
    return cast(jobs.Job, SimpleNamespace(**fields, data_key=data_key, subjects=subjects))


def without_names(job: jobs.Job) -> jobs.Job:
    """As it is read once its personal data is deleted."""
    fields = vars(job) | {"request": job.request.without_personal(), "data_key": None}
    return cast(jobs.Job, SimpleNamespace(**fields | {"samples": (), "probe_samples": ()}))


def warm(labels: Sequence[str] = (), captions: Sequence[str] = ()) -> Warm:
    sizing = Sizing(8, (0.5,) * 3, (0.5,) * 3)
    family: Any = SimpleNamespace(sizing=sizing)
    pixels = torch.zeros((len(labels), 3, 8, 8), dtype=torch.uint8)
    rows = Labelled(pixels, tuple(captions) or ("",) * len(labels), {"name": tuple(labels)})
    digests = tuple(f"{number:064x}" for number in range(len(labels)))
    return Warm("toy", "", (), family, Shelf(rows, digests, ("name",), "", {}), "")


def test_pictures_follow_each_other_target_by_target(made: Made) -> None:
    first, second = targets.asked(made.job, made.blobs)
    assert (first.target.name, second.target.name) == NAMES
    assert (list(first.samples), list(first.probe_samples)) == (made.pictures[:4], [])
    assert list(second.samples) == made.pictures[4:7]
    assert list(second.probe_samples) == made.pictures[7:]


@pytest.mark.parametrize("form", [{"target": {"name": "A"}}, {"targets": [{"name": "A"}]}])
def test_a_target_that_is_alone_has_every_picture(made: Made, form: dict[str, Any]) -> None:
    request = UnlearnRequest.model_validate({"model": "toy"} | form)
    job = job_of(request, made.job.samples, made.job.probe_samples)
    (only,) = targets.asked(job, made.blobs)
    assert (len(only.samples), len(only.probe_samples)) == (7, 2)


def test_what_was_forgotten_keeps_its_version_its_place_and_its_pictures(made: Made) -> None:
    before = made.past(True, True)
    first, second = targets.forgotten(made.warm, before, made.blobs, KEYS)
    assert [(each.version, each.target) for each in (first, second)] == [(1, 0), (1, 1)]
    assert (first.names, second.names) == (NAMES[:1], (NAMES[1], "O. Brill"))
    assert (len(first.pictures.select), len(first.pictures.test)) == (1, 1)
    assert (len(second.pictures.select), len(second.pictures.test)) == (1, 1 + 2)
    assert targets.unmeasured([first, second], before) == 0


def test_decoded_pictures_stay_warm_only_as_long_as_they_are_stored(made: Made) -> None:
    before = made.past(True, True)
    first, second = targets.forgotten(made.warm, before, made.blobs, KEYS)
    again = targets.forgotten(made.warm, before, made.blobs, KEYS)
    assert (again[0] is first, again[1] is second) == (True, True)
    made.blobs.delete(made.job.samples[0])
    gone, kept = targets.forgotten(made.warm, before, made.blobs, KEYS)
    assert kept is second
    assert (len(gone.pictures.select), len(gone.pictures.test), gone.names) == (0, 0, NAMES[:1])
    assert set(made.warm.earlier) == {(1, 1)}
    assert targets.unmeasured([gone, kept], before) == 1
    with pytest.raises(BlobMissing):
        targets.asked(made.job, made.blobs)


def test_sealed_pictures_are_opened_with_the_jobs_key_alone(made: Made) -> None:
    data_key = DataKey.random()
    digests = tuple(made.blobs.put(data_key.seal_picture(each)) for each in made.pictures)
    job = job_of(made.job.request, digests[:7], digests[7:], data_key)
    first, second = targets.asked(job, made.blobs)
    assert [*first.samples, *second.samples, *second.probe_samples] == made.pictures
    other = job_of(made.job.request, digests[:7], digests[7:], DataKey.random())
    with pytest.raises(SealBroken):
        targets.asked(other, made.blobs)


def test_a_job_whose_data_is_gone_does_not_run(made: Made) -> None:
    with pytest.raises(PersonalDataGone) as caught:
        targets.asked(without_names(made.job), made.blobs)
    told = failures.final_error(caught.value)
    assert told is not None
    assert (told.code, told.retryable) == ("personal_data_gone", True)


def test_what_nobody_names_any_more_is_found_and_measured_in_the_retain_set(made: Made) -> None:
    """Names are gone; the operator's own labels and captions still say what to leave out."""
    made.warm = warm([NAMES[0]] * 4 + ["other"], ["", "", "", "", "with o. brill, too"])
    before = [targets.Past(1, without_names(made.job), (True, True))]
    first, second = targets.forgotten(made.warm, before, made.blobs, KEYS)
    assert (first.names, len(first.pictures.test)) == (NAMES[:1], 1)
    assert (second.names, len(second.pictures.test)) == (("o. brill",), 0)
    assert targets.unmeasured([first, second], before) == 1
    # Kept with the warm model, and the control: under another installation's key nobody is found.
    assert targets.forgotten(made.warm, before, made.blobs, KEYS)[0].names == NAMES[:1]
    strangers = targets.forgotten(warm([NAMES[0]] * 4), before, made.blobs, Keys(bytes(32)))
    assert [each.names for each in strangers] == [(), ()]


def test_a_name_that_is_kept_longer_than_its_pictures_is_measured_on_retained_ones(
    made: Made,
) -> None:
    made.warm = warm([NAMES[0]] * 4)
    made.blobs.delete(made.job.samples[0])
    first, _ = targets.forgotten(made.warm, made.past(True, True), made.blobs, KEYS)
    assert (first.names, len(first.pictures.test)) == (NAMES[:1], 1)
    unknown, _ = targets.forgotten(made.warm, made.past(False, True), made.blobs, KEYS)
    assert (unknown.names, len(unknown.pictures.test)) == (NAMES[:1], 0)


def test_what_the_model_did_not_know_is_not_measured_but_stays_named(made: Made) -> None:
    before = made.past(True, False)
    known, unknown = targets.forgotten(made.warm, before, made.blobs, KEYS)
    assert len(known.pictures.test)
    assert (len(unknown.pictures.test), unknown.names) == (0, (NAMES[1], "O. Brill"))
    assert targets.unmeasured([known, unknown], before) == 0


def test_a_retain_set_that_lost_its_labels_stops_nothing(made: Made) -> None:
    made.warm.shelf = dataclasses.replace(warm().shelf, domains=("style",))
    before = made.past(True, True)
    found = targets.forgotten(made.warm, before, made.blobs, KEYS)
    assert [each.names[0] for each in found] == list(NAMES)
    assert targets.unmeasured(found, before) == 2
