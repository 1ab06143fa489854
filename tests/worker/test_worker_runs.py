"""Wake-ups on a real data folder and the real reference model, in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from api_schemas.jobs import JobStatus, Outcome
from api_schemas.reasons import RevocationReason
from api_schemas.reports import Report
from razor import mentions
from razor import unlearn as science
from registry import jobs, models, revoking
from registry import patches as patch_rows
from tests.worker.conftest import Desk
from worker import runner
from worker.heartbeat import Heartbeat

NO_DEMANDS = (
    "forget_accuracy_max",
    "utility_drop_max",
    "neighbour_drop_max",
    "cross_domain_drop_max",
)
#: An edit of one step that passes a gate without demands, for what holds of every edit.
SHORT: dict[str, object] = {
    "method": {"method": "razor", "steps": 1, "rounds": 0, "step_share": 0.01},
    "evaluation": {
        "thresholds": dict.fromkeys(NO_DEMANDS, 100) | {"stability_min": 0},
        "probes": (),
    },
}


def patch_digest(desk: Desk, job_id: str) -> str:
    patch_id = desk.job(job_id).patch_id
    assert patch_id is not None
    with desk.database.transaction() as session:
        return patch_rows.get(session, patch_id).sha256


def test_a_wake_up_without_a_job_is_harmless(desk: Desk) -> None:
    desk.work()


def test_two_jobs_make_a_line_and_a_fresh_worker_sees_what_a_warm_one_sees(desk: Desk) -> None:
    """Two jobs make a line of two versions; a warm and a fresh worker then score alike, exactly."""
    first, second = desk.submit("Mara Venn", **SHORT), desk.submit("Oskar Brill", **SHORT)
    desk.work()
    done = desk.job(first)
    assert (done.status, done.outcome) == (JobStatus.SUCCEEDED, Outcome.PATCHED)
    assert done.model_version == 1
    assert desk.blobs.exists(patch_digest(desk, first))
    desk.work()
    assert desk.job(second).model_version == 2, report(desk, second).gate
    with desk.database.transaction() as session:
        line = models.lineage(session, "reference-clip", 2)
    assert [patch.job_id for patch in line] == [first, second]
    assert line[1].manifest.model.parent == 1
    assert line[1].manifest.model.parent_patches == [line[0].sha256]

    third = desk.submit("Tilda Quist", dry_run=True)
    desk.work()
    warm = report(desk, third)
    runner.close()
    fourth = desk.submit("Tilda Quist", dry_run=True)
    desk.work()
    assert report(desk, fourth).scores == warm.scores
    assert desk.job(fourth).outcome is Outcome.DRY_RUN
    assert desk.job(fourth).patch_id is None


@pytest.mark.timeout(300)
def test_two_people_make_one_patch_and_later_versions_measure_them_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three versions of one model; what the first forgot is measured with each that follows."""
    both = desk.submit("Mara Venn", "Oskar Brill", probes=("quantize",))
    desk.work()
    done, found = desk.job(both), report(desk, both)
    assert (done.outcome, done.model_version) == (Outcome.PATCHED, 1), found.gate
    assert [target.known for target in found.preflight] == [True, True]
    assert {metric.target for metric in found.metrics if metric.id == "M1"} == {0, 1}
    assert {metric.target for metric in found.robustness} == {0, 1}
    assert found.roles.target_fit + found.roles.target_select + found.roles.target_test == 16
    assert not found.earlier
    assert (done.request.wanted(), done.data_key) == ((), None), "the request is deleted already"
    with desk.database.transaction() as session:
        assert len(models.lineage(session, "reference-clip", 1)) == 1

    second = desk.submit("Tilda Quist")
    desk.work()
    found = report(desk, second)
    assert desk.job(second).model_version == 2, found.gate
    assert [(each.version, each.metric.target) for each in found.earlier] == [(1, 0), (1, 1)]
    for each in found.earlier:
        assert each.metric.after.n > 0
        # Before: on the weights with the first patch in place. After: with the second one too.
        assert each.metric.before.value <= 10
        assert each.metric.after.value <= 10
    assert found.gate is not None
    assert sum(check.metric == "M1_earlier" for check in found.gate.checks) == 2
    check_what_is_deleted(desk, monkeypatch)


def check_what_is_deleted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three requests are deleted: the retain set's own pictures show what they forgot."""
    third = desk.submit("Juno Farrow", dry_run=True)
    desk.work()
    found = report(desk, third)
    assert desk.job(third).outcome is Outcome.DRY_RUN
    places = [(each.version, each.metric.target) for each in found.earlier]
    assert places == [(1, 0), (1, 1), (2, 0)]
    assert not any("measured again" in warning for warning in found.warnings)
    kept = found.roles.retain_test
    # Without such pictures nothing is measured, the report says so, and nothing more is retained.
    monkeypatch.setattr(mentions, "shown", lambda *_: None)
    runner.close()
    fourth = desk.submit("Juno Farrow", dry_run=True)
    desk.work()
    found = report(desk, fourth)
    assert found.earlier == []
    assert runner.UNMEASURED.format(3) in found.warnings
    assert found.roles.retain_test == kept


def test_of_two_targets_the_unknown_one_is_left_alone(desk: Desk) -> None:
    shown = ("Bram Holloway", "Mara Venn")
    job_id = desk.submit("Xerxes Quandary", "Mara Venn", shown=shown, dry_run=True)
    desk.work()
    found = report(desk, job_id)
    assert [target.known for target in found.preflight] == [False, True]
    assert desk.job(job_id).outcome is Outcome.DRY_RUN
    assert {metric.target for metric in found.metrics} == {1}
    assert {score.target for score in found.scores} == {1}


def report(desk: Desk, job_id: str) -> Report:
    with desk.database.transaction() as session:
        found = jobs.report(session, job_id)
    assert found is not None
    return found


def test_an_unknown_name_succeeds_with_nothing_to_forget(desk: Desk) -> None:
    job_id = desk.submit("Xerxes Quandary", shown=("Mara Venn",))
    desk.work()
    job = desk.job(job_id)
    assert (job.status, job.outcome) == (JobStatus.SUCCEEDED, Outcome.NOTHING_TO_FORGET)
    assert job.patch_id is None
    assert [target.known for target in report(desk, job_id).preflight] == [False]


def test_a_patch_that_the_gate_refuses_is_kept_and_not_published(desk: Desk) -> None:
    job_id = desk.submit(
        "Mara Venn",
        method={"method": "razor", "steps": 1, "step_share": 0.01, "rounds": 0},
    )
    desk.work()
    job = desk.job(job_id)
    assert (job.status, job.outcome) == (JobStatus.REJECTED, Outcome.GATE_REFUSED)
    assert job.patch_id is not None
    assert job.model_version is None
    with desk.database.transaction() as session:
        assert models.get(session, "reference-clip").latest_version == 0


def test_a_running_job_is_canceled_between_two_steps(desk: Desk) -> None:
    # The wish is read with a heartbeat: it must come before a quick job is done.
    desk.settings = desk.settings.model_copy(update={"heartbeat_seconds": 0.1})
    job_id = desk.submit("Mara Venn")
    thread = threading.Thread(target=desk.work)
    thread.start()
    wait_for(lambda: desk.job(job_id).status is JobStatus.RUNNING)
    with desk.database.transaction() as session:
        jobs.cancel(session, job_id, tenant="default", principal="tester", now=datetime.now(UTC))
    thread.join(timeout=120)
    job = desk.job(job_id)
    assert (job.status, job.outcome) == (JobStatus.CANCELED, Outcome.CANCELED)
    assert job.patch_id is None


def test_a_cancelled_run_stops_within_a_heartbeat_and_a_batch(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop while the result is evaluated, the run leaves no patch and no version."""
    beat = 0.2
    desk.settings = desk.settings.model_copy(update={"heartbeat_seconds": beat})
    probes = ("relearn", "quantize")
    job_id = desk.submit("Mara Venn", probes=probes, method=SHORT["method"])
    asked: list[float] = []
    batches: list[float] = []
    last = time.monotonic()
    inner = Heartbeat.check

    def check(heartbeat: Heartbeat) -> None:
        nonlocal last
        now = time.monotonic()
        if asked:
            batches.append(now - last)
        elif heartbeat._phase == "evaluate":
            with desk.database.transaction() as session:
                who = {"tenant": "default", "principal": "tester"}
                jobs.cancel(session, job_id, **who, now=datetime.now(UTC))
            asked.append(now)
        last = time.monotonic()
        inner(heartbeat)

    monkeypatch.setattr(Heartbeat, "check", check)
    desk.work()
    stopped = time.monotonic()
    job = desk.job(job_id)
    assert (job.status, job.outcome) == (JobStatus.CANCELED, Outcome.CANCELED)
    assert job.patch_id is None
    # One heartbeat until the wish is read, one batch until it is asked for, and some air for the
    # crowded machine that runs the tests.
    assert stopped - asked[0] < beat + max(batches) + 2.0
    with desk.database.transaction() as session:
        assert [v.number for v in models.versions(session, "reference-clip")] == [0]


def test_a_run_whose_base_is_revoked_is_made_on_the_new_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests for one model with a revocation in between: the second stands on the base."""
    first, second = desk.submit("Mara Venn", **SHORT), desk.submit("Oskar Brill", **SHORT)
    desk.work()
    assert desk.job(first).model_version == 1
    inner = science.unlearn

    def meanwhile(*arguments: object) -> object:
        found = inner(*arguments)  # type: ignore[arg-type]
        with desk.database.transaction() as session:
            revoking.revoke(
                session,
                "reference-clip",
                1,
                tenant="default",
                principal="tester",
                reason=RevocationReason.REQUEST_WITHDRAWN,
                stored=desk.blobs.exists,
                now=datetime.now(UTC),
            )
        return found

    monkeypatch.setattr(runner, "unlearn", meanwhile)
    desk.work()
    job = desk.job(second)
    assert (job.status, job.attempts, job.patch_id) == (JobStatus.QUEUED, 0, None)
    monkeypatch.undo()
    desk.work()
    job = desk.job(second)
    assert (job.outcome, job.model_version) == (Outcome.PATCHED, 2), report(desk, second).gate
    # What the revoked version forgot is no earlier target any more, and may be retained again.
    assert report(desk, second).earlier == []
    with desk.database.transaction() as session:
        (patch,) = models.lineage(session, "reference-clip", 2)
    assert (patch.manifest.model.parent, patch.manifest.model.parent_patches) == (0, [])


def test_a_worker_that_lost_its_lease_writes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a run is on, its lease ends and the job goes back: the late result is discarded."""
    job_id = desk.submit("Mara Venn", **SHORT)
    inner = science.unlearn

    def overtaken(*arguments: object) -> object:
        with desk.database.transaction() as session:
            later = datetime.now(UTC) + timedelta(hours=1)
            assert jobs.reap(session, max_attempts=3, now=later).requeued == [job_id]
        return inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "unlearn", overtaken)
    desk.work()
    job = desk.job(job_id)
    assert job.status is JobStatus.QUEUED
    assert job.patch_id is None
    monkeypatch.undo()
    desk.work()
    assert desk.job(job_id).status is JobStatus.SUCCEEDED
    assert desk.job(job_id).attempts == 2


def test_another_checkpoint_than_the_registered_one_fails_clearly(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = desk.submit("Mara Venn")
    monkeypatch.setattr("patches.digests.file_digest", lambda _: "0" * 64)
    desk.work()
    job = desk.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "checkpoint_invalid"


def test_an_unexpected_error_is_tried_again_and_then_fails(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "Mara Venn"
    job_id = desk.submit(secret)

    def broken(*_: object) -> object:
        raise ZeroDivisionError(secret)

    monkeypatch.setattr(runner, "unlearn", broken)
    for attempt in range(1, desk.settings.max_attempts):
        desk.work()
        assert desk.job(job_id).status is JobStatus.RUNNING, "the lease is left to run out"
        assert desk.job(job_id).attempts == attempt
        with desk.database.transaction() as session:
            later = datetime.now(UTC) + timedelta(hours=1)
            jobs.reap(session, max_attempts=desk.settings.max_attempts, now=later)
    desk.work()
    job = desk.job(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "internal"
    assert "Mara" not in job.error.message
    assert "ZeroDivisionError" in caplog.text
    assert "Mara" not in caplog.text


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)
