"""Lost answers, restarts, silence: the client gets through, or says plainly that it did not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from broken_wire import FaultyWire, passes, refused, unavailable
from front_world import bearer, pictures, unlearn_request
from live_front import Live, free_port, start

from api_schemas.jobs import JobStatus, JobView
from api_schemas.problems import Problem
from client import Client, ProblemError, ServiceUnreachable, WaitTimeout, exchange, watching


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PAUSES_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(watching, "PAUSE_SECONDS", 0.05)


def test_a_lost_answer_makes_no_second_job(server: Live) -> None:
    wire = FaultyWire(refused)
    wire._faults += [wire.answer_lost, unavailable]
    with Client(server.url, api_key=server.key, transport=wire) as service:
        job = service.submit(unlearn_request(), pictures(3))
    assert server.world.stored()["jobs"] == 1
    assert server.world.job(job.id).status is JobStatus.QUEUED
    assert len(wire.requests) == 4
    assert len({request.headers["idempotency-key"] for request in wire.requests}) == 1


def test_without_the_key_there_would_be_two_jobs(server: Live) -> None:
    """The negative control of the test above: the wire does deliver what it then loses."""
    wire = FaultyWire()
    wire._faults += [wire.answer_lost, passes]
    with httpx.Client(base_url=server.url, transport=wire, headers=bearer(server.key)) as http:
        files = [("samples", (str(n), data)) for n, data in enumerate(pictures(3))]
        body = {"request": unlearn_request().model_dump_json()}
        with pytest.raises(httpx.ReadError):
            http.post("/unlearn", data=body, files=files)
        http.post("/unlearn", data=body, files=files)
    assert server.world.stored()["jobs"] == 2


def test_retries_end(server: Live) -> None:
    for fault, error in ((refused, ServiceUnreachable), (unavailable, ProblemError)):
        wire = FaultyWire(*[fault] * 10)
        with (
            Client(server.url, api_key=server.key, transport=wire) as service,
            pytest.raises(error),
        ):
            service.submit(unlearn_request(), pictures(3))
        assert len(wire.requests) == 4
    assert server.world.stored()["jobs"] == 0


def test_refusals_are_not_retried(server: Live) -> None:
    wire = FaultyWire()
    with (
        Client(server.url, api_key=server.key, transport=wire) as service,
        pytest.raises(ProblemError),
    ):
        service.submit(unlearn_request(), [])
    assert len(wire.requests) == 1


def test_an_answer_of_something_else_is_a_problem_too() -> None:
    for status in (200, 418):
        page = httpx.Response(status, text="<h1>tea</h1>")
        wire = httpx.MockTransport(lambda _, page=page: page)
        with Client("http://test", transport=wire) as service:
            with pytest.raises(ProblemError) as caught:
                service.models()
            with pytest.raises(ProblemError):
                service.methods()
        problem = caught.value.problem
        assert (problem.type, problem.status, problem.retryable) == ("about:blank", status, False)
    assert "<h1>" not in str(caught.value)


def test_wait_tells_every_change_and_ends_with_the_job(server: Live) -> None:
    world = server.world
    job_id = world.accept()
    seen: list[tuple[str, float]] = []
    running = threading.Event()

    def keep(job: JobView) -> None:
        seen.append((job.progress.phase, job.progress.fraction))
        if job.status is JobStatus.RUNNING:
            running.set()

    def work() -> None:
        time.sleep(0.3)
        job = world.claim()
        assert running.wait(10)
        for fraction in (0.25, 0.5):
            world.progress(job, phase="search", fraction=fraction)
            time.sleep(0.6)
        world.finish(job)

    worker = threading.Thread(target=work)
    worker.start()
    with Client(server.url, api_key=server.key) as service:
        done = service.wait(job_id, keep, timeout=30)
    worker.join()
    assert done.status is JobStatus.SUCCEEDED
    assert seen[0] == ("queued", 0.0)
    assert ("search", 0.25) in seen
    assert ("search", 0.5) in seen
    assert seen[-1][1] == 1.0
    assert len(seen) == len(set(seen))


def test_wait_ends_in_time_with_what_it_saw(server: Live) -> None:
    job_id = server.world.accept()
    started = time.monotonic()
    with Client(server.url, api_key=server.key) as service, pytest.raises(WaitTimeout) as caught:
        service.wait(job_id, timeout=0.7)
    assert 0.7 <= time.monotonic() - started < 5
    assert (caught.value.job.id, caught.value.timeout) == (job_id, 0.7)
    with Client(server.url, api_key=server.key) as service:
        assert service.wait(server.world.finished().id, timeout=0).status is JobStatus.SUCCEEDED


def test_wait_survives_a_restart_of_the_service(tmp_path: Path) -> None:
    port = free_port()
    first = start(tmp_path, port=port)
    job_id = first.world.accept()
    second: list[Live] = []

    def restart() -> None:
        time.sleep(0.4)
        first.stop()
        time.sleep(0.3)
        second.append(start(tmp_path, port=port))
        second[0].world.finish(second[0].world.claim())

    operator = threading.Thread(target=restart)
    operator.start()
    try:
        with Client(first.url, api_key=first.key) as service:
            assert service.wait(job_id, timeout=60).status is JobStatus.SUCCEEDED
    finally:
        operator.join()
        second[0].stop()


def test_wait_gives_up_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.3)
    started = time.monotonic()
    with Client(f"http://127.0.0.1:{free_port()}") as service:
        with pytest.raises(ServiceUnreachable):
            service.wait("job_" + "0" * 32)
        with pytest.raises(ServiceUnreachable):
            service.wait("job_" + "0" * 32, timeout=0.1)
    assert time.monotonic() - started < 5


def test_wait_does_not_wait_for_a_job_that_does_not_exist(server: Live) -> None:
    with Client(server.url, api_key=server.key) as service, pytest.raises(ProblemError) as caught:
        service.wait("job_" + "0" * 32)
    assert caught.value.problem.type == "/problems/job-not-found"


def test_a_long_poll_outlasts_the_timeout_of_the_client(server: Live) -> None:
    job_id = server.world.accept()
    with Client(server.url, api_key=server.key, timeout=0.5) as service:
        started = time.monotonic()
        assert service.job(job_id, wait_seconds=1.2).status is JobStatus.QUEUED
        assert time.monotonic() - started >= 1.2


def test_a_rate_limit_is_waited_out_and_a_quota_is_not() -> None:
    for slug, asked in (("rate-limited", 4), ("quota-exceeded", 1)):
        problem = Problem(
            type=f"/problems/{slug}",
            title="No",
            status=429,
            detail="Later.",
            request_id="r",
            retryable=True,
            errors=[],
        )
        seen: list[httpx.Request] = []

        def refuse(
            request: httpx.Request,
            problem: Problem = problem,
            seen: list[httpx.Request] = seen,
        ) -> httpx.Response:
            seen.append(request)
            return httpx.Response(429, text=problem.model_dump_json())

        wire = httpx.MockTransport(refuse)
        with (
            Client("http://test", api_key="k", transport=wire) as service,
            pytest.raises(ProblemError, match="Later"),
        ):
            service.models()
        assert len(seen) == asked
        assert {request.headers["authorization"] for request in seen} == {"Bearer k"}
