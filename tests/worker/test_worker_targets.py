"""Whose pictures are whose, and what is known of the targets of earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api_schemas.requests import UnlearnRequest
from razor.pictures import Sizing
from registry import jobs
from registry.blobs import LocalBlobs
from registry.errors import BlobMissing
from worker import targets
from worker.warm import Warm

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


def job_of(request: UnlearnRequest, samples: tuple[str, ...], probes: tuple[str, ...]) -> jobs.Job:
    fields = {"request": request, "samples": samples, "probe_samples": probes}
    return cast(jobs.Job, SimpleNamespace(**fields))


def warm() -> Warm:
    sizing = Sizing(8, (0.5,) * 3, (0.5,) * 3)
    family: Any = SimpleNamespace(sizing=sizing)
    shelf: Any = SimpleNamespace(domains=("name",))
    return Warm("toy", "", (), family, shelf, "")


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
    first, second = targets.forgotten(made.warm, before, made.blobs)
    assert [(each.version, each.target) for each in (first, second)] == [(1, 0), (1, 1)]
    assert (first.names, second.names) == (NAMES[:1], (NAMES[1], "O. Brill"))
    assert (len(first.pictures.select), len(first.pictures.test)) == (1, 1)
    assert (len(second.pictures.select), len(second.pictures.test)) == (1, 1 + 2)
    assert targets.unmeasured([first, second], before) == 0


def test_decoded_pictures_stay_warm_only_as_long_as_they_are_stored(made: Made) -> None:
    before = made.past(True, True)
    first, second = targets.forgotten(made.warm, before, made.blobs)
    again = targets.forgotten(made.warm, before, made.blobs)
    assert (again[0] is first, again[1] is second) == (True, True)
    made.blobs.delete(made.job.samples[0])
    gone, kept = targets.forgotten(made.warm, before, made.blobs)
    assert kept is second
    assert (len(gone.pictures.select), len(gone.pictures.test), gone.names) == (0, 0, NAMES[:1])
    assert set(made.warm.earlier) == {(1, 1)}
    assert targets.unmeasured([gone, kept], before) == 1
    with pytest.raises(BlobMissing):
        targets.asked(made.job, made.blobs)


def test_what_the_model_did_not_know_is_not_measured_but_stays_named(made: Made) -> None:
    before = made.past(True, False)
    known, unknown = targets.forgotten(made.warm, before, made.blobs)
    assert len(known.pictures.test)
    assert (len(unknown.pictures.test), unknown.names) == (0, (NAMES[1], "O. Brill"))
    assert targets.unmeasured([known, unknown], before) == 0


def test_a_retain_set_that_lost_its_labels_stops_nothing(made: Made) -> None:
    made.warm.shelf = cast(Any, SimpleNamespace(domains=("style",)))
    before = made.past(True, True)
    found = targets.forgotten(made.warm, before, made.blobs)
    assert [each.names[0] for each in found] == list(NAMES)
    assert targets.unmeasured(found, before) == 2
