from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cli_world import JOB, Run, Service, done, job

from api_schemas.jobs import JobStatus
from api_schemas.methods import Razor
from cli import submit
from cli.failures import Usage

NAME = "Mara Venn"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.jpg", "c.WEBP", "notes.txt"):
        (folder / name).write_bytes(f"picture {name}".encode())
    return folder


def test_the_request_says_what_the_flags_say(run: Run, service: Service, photos: Path) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    found = run(
        *("submit", "--model", "toy", "--name", NAME, "--alias", "M. V.", "--samples", str(photos)),
        *("--set", "tau=0.3", "--set", "heads=false", "--seed", "7", "--due", "2026-12-24"),
        *("--priority", "3", "--regulation", "gdpr", "--reference", "DSR-1"),
    )
    assert (found.code, found.out) == (0, f"{JOB}\n")
    body = service.asked[0].content
    for part in (
        b'"tau":0.3',
        b'"heads":false',
        b'"seed":7',
        b'"due_at":"2026-12-24T00:00:00Z"',
        b'"priority":3',
        b'"regulation":"gdpr"',
        b'"subject_request_id":"DSR-1"',
        b'"aliases":["M. V."]',
        b"picture a.jpg",
        b"picture b.png",
        b"picture c.WEBP",
    ):
        assert part in body
    assert b"notes.txt" not in body


def test_a_target_may_be_described_and_attacks_chosen(
    run: Run, service: Service, photos: Path
) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    asked = ("submit", "--model", "toy", "--name", NAME, "--samples", str(photos))
    described = ("--describe", "green glasses", "--describe", "red hair")
    assert run(*asked, *described, "--probe", "linear", "--probe", "relearn").code == 0
    assert run(*asked, "--probe", "none").code == 0
    assert run(*asked).code == 0
    chosen, none, default = (request.content for request in service.asked)
    assert b'"descriptions":["green glasses","red hair"]' in chosen
    assert b'"probes":["linear","relearn"]' in chosen
    assert b'"probes":[]' in none
    assert b'"probes"' not in default


def test_pictures_to_measure_on_are_sent_apart(run: Run, service: Service, photos: Path) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    more = photos.parent / "more.png"
    more.write_bytes(b"another picture")
    asked = ("submit", "--model", "toy", "--name", NAME, "--samples", str(photos))
    assert run(*asked, "--probe-samples", str(more)).code == 0
    body = service.asked[0].content
    assert body.index(b'name="probe_samples"') < body.index(b"another picture")


def test_files_after_samples_may_stand_alone(run: Run, service: Service, photos: Path) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    files = [str(photos / name) for name in ("b.png", "a.jpg", "c.WEBP")]
    assert run("submit", "--model", "toy", "--name", NAME, "--samples", *files).code == 0
    body = service.asked[0].content
    assert body.index(b"picture b.png") < body.index(b"picture a.jpg") < body.index(b"picture c")


def test_the_name_can_stay_out_of_the_shell(
    run: Run, service: Service, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    file = photos.parent / "name.txt"
    file.write_text(f"{NAME}\n", encoding="utf-8")
    asked = ("submit", "--model", "toy", "--samples", str(photos))
    assert run(*asked, "--name-file", str(file)).code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{NAME}\n"))
    assert run(*asked, "--name", "-").code == 0
    assert all(b'"name":"Mara Venn"' in request.content for request in service.asked)
    assert len(service.asked) == 2


def test_the_name_is_never_printed(run: Run, service: Service, photos: Path) -> None:
    for extra in ((), ("--kind", "ghost"), ("--set", "tau=9")):
        found = run("submit", "--model", "toy", "--name", NAME, "--samples", str(photos), *extra)
        assert found.code != 0
        assert NAME not in found.out + found.err


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("--name", NAME, "--name-file", __file__),
        ("--name", NAME, "--kind", "ghost"),
        ("--name", NAME, "--method", "magic"),
        ("--name", NAME, "--set", "tau"),
        ("--name", NAME, "--set", "nonsense=1"),
        ("--name", NAME, "--set", "method=slug"),
        ("--name", NAME, "--due", "tomorrow"),
        ("--name", NAME, "--samples", "/nowhere"),
        ("--name", NAME, "--probe", "magic"),
        ("--name", NAME, "--probe", "none", "--probe", "linear"),
    ],
)
def test_what_makes_no_sense_is_exit_2_and_nothing_is_sent(
    run: Run,
    service: Service,
    photos: Path,
    extra: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    found = run("submit", "--model", "toy", "--samples", str(photos), *extra)
    assert found.code == 2
    assert found.err
    assert not service.asked


def test_without_pictures_nothing_is_sent(run: Run, service: Service, tmp_path: Path) -> None:
    assert run("submit", "--model", "toy", "--name", NAME).code == 2
    assert run("submit", "--model", "toy", "--name", NAME, "--samples", str(tmp_path)).code == 2
    assert not service.asked


def test_waiting_prints_one_plain_line_per_change(run: Run, service: Service, photos: Path) -> None:
    service.set("POST", "/unlearn", job(JobStatus.QUEUED))
    service.set("GET", f"/jobs/{JOB}", job(), job(), done())
    found = run("submit", "--model", "toy", "--name", NAME, "--samples", str(photos), "--wait")
    assert found.code == 0
    assert found.err == "running  edit  50%\n"
    assert found.out.splitlines()[0] == JOB
    assert "succeeded  patched" in found.out.splitlines()[1]
    assert "\x1b" not in found.out + found.err


def test_values_are_json_where_they_can_be() -> None:
    assert submit.read_parameters(["a=0.3", "b=true", "c=text", "d=1=2"]) == {
        "a": 0.3,
        "b": True,
        "c": "text",
        "d": "1=2",
    }
    assert Razor.model_validate(submit.read_parameters(["tau=0.3"])).tau == 0.3


def test_moments_are_utc_unless_they_say_otherwise() -> None:
    assert submit.read_moment("2026-12-24") == datetime(2026, 12, 24, tzinfo=UTC)
    east = timezone(timedelta(hours=1))
    assert submit.read_moment("2026-12-24T18:00+01:00") == datetime(2026, 12, 24, 18, tzinfo=east)
    assert submit.read_moment(None) is None
    with pytest.raises(Usage):
        submit.read_moment("24.12.2026")
