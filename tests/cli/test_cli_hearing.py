from __future__ import annotations

import json
from typing import Any

from cli_world import JOB, PATCH, Run, Service

HOOK = "whk_" + "3" * 32
MESSAGE = "msg_" + "4" * 32
SECRET = "whsec_c2VjcmV0"


def event(number: int, kind: str, **changes: Any) -> dict[str, Any]:
    data = {
        "status": kind,
        "outcome": None,
        "phase": "edit",
        "attempt": 1,
        "error_code": None,
        "patch_id": None,
        "model_version": None,
    }
    return {
        "id": number,
        "type": f"job.{kind}",
        "job_id": JOB,
        "at": "2026-01-02T03:04:05Z",
        "data": data | changes,
    }


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in events)


def webhook(**changes: Any) -> dict[str, Any]:
    return {
        "id": HOOK,
        "url": "https://example.org/hook",
        "events": ["job.failed"],
        "enabled": True,
        "disabled_reason": None,
        "created_at": "2026-01-02T03:04:05Z",
    } | changes


def delivery(**changes: Any) -> dict[str, Any]:
    attempts = [
        {"number": 1, "at": "2026-01-02T03:04:05Z", "status_code": None, "failure": "tls_failed"}
    ]
    return {
        "id": MESSAGE,
        "webhook_id": HOOK,
        "type": "job.failed",
        "job_id": JOB,
        "event_id": 3,
        "status": "pending",
        "created_at": "2026-01-02T03:04:05Z",
        "next_attempt_at": "2026-01-02T03:04:10Z",
        "attempts": attempts,
    } | changes


def test_events_are_lines_until_the_final_one(run: Run, service: Service) -> None:
    done = event(8, "succeeded", outcome="patched", patch_id=PATCH, model_version=2)
    service.set("GET", f"/jobs/{JOB}/events", stream(event(7, "running"), done))
    found = run("events", JOB, "--after", "6")
    assert found.code == 0
    assert found.out.splitlines() == [
        "  7  2026-01-02 03:04:05  job.running  edit",
        f"  8  2026-01-02 03:04:05  job.succeeded  patched  {PATCH}  version 2",
    ]
    assert service.asked[0].headers["last-event-id"] == "6"
    lines = run("events", JOB, "--json").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [7, 8]


def test_a_new_webhook_prints_its_secret_once(run: Run, service: Service) -> None:
    made = {"webhook": webhook(), "secret": SECRET, "previous_until": None}
    service.set("POST", "/webhooks", made)
    found = run("webhooks", "add", "https://example.org/hook", "--event", "job.failed")
    assert (found.code, found.out.splitlines()) == (0, [HOOK, SECRET])
    assert json.loads(service.asked[0].content) == {
        "url": "https://example.org/hook",
        "events": ["job.failed"],
    }
    service.set("GET", "/webhooks", {"items": [webhook(), webhook(disabled_reason="gone")]})
    out = run("webhooks", "list").out
    assert "disabled (gone)" in out
    assert SECRET not in out


def test_what_makes_no_sense_is_not_sent(run: Run, service: Service) -> None:
    for arguments in (("nowhere",), ("https://example.org/", "--event", "job.exploded")):
        assert run("webhooks", "add", *arguments).code == 2
    assert service.asked == []


def test_deliveries_replay_and_remove(run: Run, service: Service) -> None:
    service.set("GET", f"/webhooks/{HOOK}/deliveries", {"items": [delivery()], "next": None})
    line = run("webhooks", "deliveries", HOOK).out.splitlines()[1]
    assert line.split("  ")[:3] == [MESSAGE, "job.failed", "pending"]
    assert "tls_failed" in line
    assert "03:04:10" in line
    service.set("POST", f"/webhooks/{HOOK}/deliveries/{MESSAGE}/replay", delivery())
    assert run("webhooks", "replay", HOOK, MESSAGE).code == 0
    assert run("webhooks", "remove", HOOK).code == 1
    service.set("DELETE", f"/webhooks/{HOOK}", b"")
    assert run("webhooks", "remove", HOOK).out == f"{HOOK}  removed\n"
