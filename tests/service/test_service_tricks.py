"""Names and numbers made to lead elsewhere: in file names, parts, ids, queries."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from front_world import World, as_files, fields, pictures

NAMES = (
    "../../../../tmp/razor-trick",
    "/etc/passwd",
    "C:\\windows\\razor-trick",
    "razor-trick\x00.png",
    "razor-trick\n.png",
    "razor-trick\u202egnp.exe",
    "%2e%2e%2frazor-trick",
    "razor-trick" + "x" * 5000,
    "<script>razor-trick</script>",
    "${jndi:ldap://razor-trick}",
    "$(touch /tmp/razor-trick)",
    ".",
    "..",
)


def multipart(parts: list[tuple[bytes, bytes]]) -> dict[str, object]:
    """Parts with their headers as they are: no library between to clean them."""
    body = b"".join(b"--x\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    kind = "multipart/form-data; boundary=x"
    return {"content": body + b"--x--\r\n", "headers": {"content-type": kind}}


def disposition(name: str, filename: str | None = None) -> bytes:
    text = f'Content-Disposition: form-data; name="{name}"'
    return (text if filename is None else f'{text}; filename="{filename}"').encode()


REQUEST = (disposition("request"), json.dumps(fields()).encode())


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_name_leads_nowhere(
    front: World, http: TestClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    files = [(disposition("samples", name), data) for data in pictures(3)]
    answer = http.post("/unlearn", **multipart([REQUEST, *files]))  # type: ignore[arg-type]
    # Any name is taken and forgotten, but for one that no header has room for.
    assert answer.status_code == (400 if len(name) > 4000 else 202), answer.text
    assert "razor-trick" not in answer.text + caplog.text
    written = [path for path in front.root.rglob("*") if "razor-trick" in path.name]
    assert written == []
    assert not Path("/tmp/razor-trick").exists()
    for path in (front.root / "data").glob("razor.db*"):
        assert b"razor-trick" not in path.read_bytes()


def test_too_many_parts_and_headers_of_parts_are_refused(http: TestClient) -> None:
    many = [(disposition("samples"), b"a")] * 20_000
    files = [(disposition("samples", "a"), b"a")] * 20_000
    long = [(disposition("samples", "a") + b"\r\nX-A: " + b"a" * 2**20, b"a")]
    heads = [(disposition("samples", "a") + b"\r\nX-A: a" * 20_000, b"a")]
    for parts in (many, files, long, heads):
        answer = http.post("/unlearn", **multipart([REQUEST, *parts]))  # type: ignore[arg-type]
        assert answer.status_code in (400, 422), len(parts)
        assert answer.headers["content-type"] == "application/problem+json"


IDS = (
    "..",
    "../../etc/passwd",
    "job_" + "0" * 32,
    "job_" + "x" * 5000,
    "a\x00b",
    "a\nb",
    "\u202ejob",
    "job_1' OR '1'='1",
    "ｊob_1",  # noqa: RUF001
    "-1",
    "%00",
)


@pytest.mark.parametrize("path", ["/jobs/{}", "/models/{}", "/patches/{}", "/webhooks/{}"])
def test_an_id_that_is_none_is_not_found(http: TestClient, path: str) -> None:
    for wanted in IDS:
        for method in ("GET", "DELETE"):
            answer = http.request(method, path.format(quote(wanted, safe="")))
            assert answer.status_code in (404, 405, 422), (method, path, wanted)
            assert answer.headers["content-type"] == "application/problem+json"
            assert "OR '1'" not in answer.text


def test_queries_that_are_none_are_refused(http: TestClient) -> None:
    for query in (
        "limit=-1",
        "limit=1e9",
        "limit=" + "9" * 5000,
        "cursor=../../x",
        "cursor=%00",
        "status=' OR 1=1",
        "model=" + "x" * 5000,
        "&".join(f"a{number}=1" for number in range(5000)),
    ):
        answer = http.get(f"/jobs?{query}")
        assert answer.status_code in (200, 400, 414, 422), query[:40]
        if answer.status_code == 200:
            assert answer.json()["items"] == []
    answer = http.post("/unlearn", files=[*as_files(pictures(3))], params={"x": "y" * 5000})
    assert answer.status_code in (400, 422)
