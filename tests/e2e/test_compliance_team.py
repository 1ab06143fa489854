"""A case as a compliance team has it: several people, a restart, a webhook, evidence that stays.

From the request to evidence that verifies when the service and everything it kept are gone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from api_schemas.concepts import Target
from api_schemas.events import JobEvent
from api_schemas.jobs import JobStatus, JobView
from api_schemas.methods import Razor
from api_schemas.requests import Evaluation, Thresholds, UnlearnRequest
from cli import main
from cli.keys import SHOWN_ONCE
from client import Client
from client.errors import ProblemError
from razor.reference.clip import shipped_clip
from tests.conftest import SAMPLE_SEED
from tests.e2e.conftest import Running
from tests.e2e.traces_left import nothing_is_left
from tests.service.webhook_world import Got, Receiver, receiving

PERSON = "Mara Venn"
#: For each wait, on a machine with much else to do.
SECONDS = 400.0
#: Whatever a process that has this in its path connects to, it fails: what works is offline.
NO_NETWORK = """\
import socket

def refuse(*_):
    raise OSError("this test has no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


@dataclass(frozen=True)
class Team:
    """One key for each of its people, made as the operator makes them."""

    clerk: str  # reads
    officer: str  # asks, and may decide on what others ask for
    lead: str  # decides
    auditor: str


@pytest.fixture
def team(alone: Running) -> Team:
    alone.stack.wait_ready(threading.Event())
    scopes = {
        "clerk": ("unlearn:read",),
        "officer": ("unlearn:write", "unlearn:read", "unlearn:approve"),
        "lead": ("unlearn:approve", "unlearn:read"),
        "auditor": ("audit:read", "unlearn:read"),
    }
    return Team(**{name: new_key(alone, name, *found) for name, found in scopes.items()})


def new_key(running: Running, name: str, *scopes: str) -> str:
    chosen = [part for scope in scopes for part in ("--scope", scope)]
    said = razor(running, "keys", "create", name, *chosen)
    assert said.startswith(SHOWN_ONCE)
    return said.removeprefix(SHOWN_ONCE).strip()


def razor(running: Running, *words: str) -> str:
    """What the command says to an operator of this service."""
    data = ("--data", str(running.stack.settings.data_folder))
    done = CliRunner().invoke(main.commands, [*words, *data], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@dataclass
class Case:
    """The request of this test, and the pictures that go with it."""

    samples: list[bytes]
    request: UnlearnRequest = UnlearnRequest(  # noqa: RUF009 (frozen)
        model="reference-clip",
        target=Target(name=PERSON),
        method=Razor(steps=16),
        evaluation=Evaluation(probes=(), thresholds=Thresholds(neighbour_drop_max=30)),
    )

    def post(self, client: Client, key: str) -> JobView:
        return client.submit(self.request, self.samples, idempotency_key=key)


@pytest.fixture
def case(draw_png: Callable[[str, int], bytes]) -> Case:
    return Case([draw_png(PERSON, SAMPLE_SEED + number) for number in range(8)])


@pytest.mark.timeout(1200)
def test_a_case_from_the_request_to_evidence_without_the_service(
    alone: Running, team: Team, case: Case, tmp_path: Path
) -> None:
    with (
        receiving() as receiver,
        Client(alone.url, api_key=team.clerk) as clerk,
        Client(alone.url, api_key=team.officer) as officer,
        Client(alone.url, api_key=team.lead) as lead,
        Client(alone.url, api_key=team.auditor) as auditor,
        Client(alone.url, api_key=alone.key) as admin,
    ):
        secret = admin.add_webhook(receiver.url).secret

        assert refused(lambda: case.post(clerk, "case-0")) == (403, "/problems/insufficient-scope")
        first = case.post(officer, "case-1")
        assert case.post(officer, "case-1").id == first.id
        assert [one.id for one in officer.jobs().items] == [first.id]
        stop_it_while_it_runs(officer, first.id)

        razor(alone, "tenants", "set", "default", "--set", "approval_required=true")
        job_id = case.post(officer, "case-2").id
        events = Following(alone, team.lead, job_id)
        follow(events, until="job.accepted")
        restart_the_front(alone)
        assert case.post(officer, "case-2").id == job_id, "the key holds across the restart"
        assert officer.job(job_id).status is JobStatus.AWAITING_APPROVAL
        assert refused(lambda: officer.approve(job_id)) == (403, "/problems/own-request")
        assert refused(lambda: clerk.approve(job_id)) == (403, "/problems/insufficient-scope")
        lead.approve(job_id)
        follow(events, until="job.running")
        restart_the_front(alone)
        follow(events, until="job.succeeded")
        assert events.connections >= 3, "it was broken off twice"
        assert [one.id for one in events.got] == list(range(1, len(events.got) + 1))
        assert events.got == clerk.history(job_id).items
        assert events.answer() == 204, "there is no more to come"

        told = messages_of(receiver, job_id, len(events.got))
        assert {one.verified(secret)["data"]["event_id"] for one in told} == {
            one.id for one in events.got
        }
        (ended,) = [one.content for one in told if one.content["type"] == "job.succeeded"]
        assert ended["data"]["urls"]["evidence"] == f"/jobs/{job_id}/evidence"
        with pytest.raises(Exception, match="signature"):
            told[0].verified(secret[:-8] + "AAAAAAA=")

        wait_for(lambda: clerk.job(job_id).erased_at is not None)
        wait_for(lambda: clerk.job(first.id).erased_at is not None)
        auditor.evidence(job_id, tmp_path / "evidence")
        (tmp_path / "key.pem").write_text(auditor.audit_key())
    alone.stack.stop()
    settings = alone.stack.settings
    nothing_is_left(settings.data_folder, settings.database, {PERSON}, case.samples)
    shutil.rmtree(settings.data_folder)
    check_offline(tmp_path)


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        call()
    return caught.value.problem.status, caught.value.problem.type


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def stop_it_while_it_runs(client: Client, job_id: str) -> None:
    """The worker holds it; what ends is the work, well before it would have been done."""
    wait_for(lambda: client.job(job_id).progress.phase in ("preflight", "score", "edit"))
    assert client.cancel(job_id).status in (JobStatus.CANCELING, JobStatus.CANCELED)
    ended = client.wait(job_id, timeout=SECONDS)
    assert (ended.status, ended.result) == (JobStatus.CANCELED, None)
    assert ended.attempts == 1


def restart_the_front(running: Running) -> None:
    """As an operator's supervisor does it: asked to stop, waited for, started again."""
    front = running.stack.api
    before = front.pid
    front.ask_to_stop()
    front.stop(time.monotonic() + 60)
    front.start()
    assert front.pid != before
    running.stack.wait_ready(threading.Event())


class Following:
    """A job's stream as any client follows it, with ``Last-Event-ID`` and nothing of ours."""

    def __init__(self, running: Running, key: str, job_id: str) -> None:
        self._address = f"{running.url}/jobs/{job_id}/events"
        self._headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
        self.got: list[JobEvent] = []
        self.connections = 0

    def answer(self) -> int:
        """The status alone."""
        with self._opened() as response:
            return response.status_code

    def events(self) -> Iterator[JobEvent]:
        """Those of one connection, after what came before."""
        with self._opened() as response:
            assert response.status_code == 200
            self.connections += 1
            for line in response.iter_lines():
                if line.startswith("data:"):
                    self.got.append(JobEvent.model_validate_json(line.removeprefix("data:")))
                    yield self.got[-1]

    def _opened(self) -> Any:
        after = str(self.got[-1].id) if self.got else "0"
        headers = self._headers | {"last-event-id": after}
        return httpx.stream("GET", self._address, headers=headers, timeout=60)


def follow(events: Following, *, until: str) -> None:
    """Read on, in one connection, to this type of event."""
    assert until in (event.type.value for event in events.events()), events.got


def messages_of(receiver: Receiver, job_id: str, count: int) -> list[Got]:
    """One message for each of the job's events, whichever were sent twice."""

    def found() -> dict[str, Got]:
        return {one.id: one for one in receiver.got if one.content["data"]["job_id"] == job_id}

    wait_for(lambda: len(found()) >= count)
    return list(found().values())


def check_offline(folder: Path) -> None:
    """What the auditor keeps verifies with nothing but itself, the key, and the base weights."""
    offline = folder / "offline"
    offline.mkdir()
    (offline / "sitecustomize.py").write_text(NO_NETWORK)
    reach = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert "has no network" in process(offline, sys.executable, "-c", reach).stderr
    words = ("verify", str(folder / "evidence"), "--key", str(folder / "key.pem"))
    razor = Path(sys.executable).with_name("razor")
    done = process(offline, razor, *words, "--base", shipped_clip())
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [line for line in done.stdout.splitlines() if line.startswith(("ok", "FAIL"))]
    assert len(checks) == 11
    assert "Not proven:" in done.stdout
    # The control: one figure that somebody made better afterwards.
    report = folder / "evidence" / "report.json"
    found = json.loads(report.read_text())
    found["metrics"][0]["after"]["value"] = 0.125
    report.write_text(json.dumps(found, sort_keys=True, indent=2) + "\n")
    assert CliRunner().invoke(main.commands, list(words)).exit_code != 0


def process(path: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What a process with this folder in its path says."""
    environment = dict(os.environ) | {"PYTHONPATH": str(path)}
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
