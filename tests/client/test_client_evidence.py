"""Evidence and the log through the client; archives that would write elsewhere."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import httpx
import pytest
from front_world import World

from client import Client, ProblemError, UnsafeArchive
from evidence import checkpoints, keys, lines, merkle, names
from evidence.verify import verify


def test_what_the_client_fetches_is_checked_offline(
    front: World, service: Client, tmp_path: Path
) -> None:
    job = front.finished()
    key = keys.read_public(service.audit_key().encode())
    old = checkpoints.read(service.audit_checkpoint().encode(), key)
    folder = service.evidence(job.id, tmp_path / "deep" / "evidence")
    assert verify(folder, key=key.pem).passed
    assert sorted(p.name for p in folder.parent.iterdir()) == ["evidence"]
    with pytest.raises(FileExistsError):
        service.evidence(job.id, folder)

    new = checkpoints.read(service.audit_checkpoint().encode(), key)
    proof = service.audit_consistency(old.size, new.size)
    path = [bytes.fromhex(value) for value in proof.hashes]
    merkle.check_consistency(old.size, new.size, path, old.root, new.root)
    page = service.audit(limit=2)
    assert len(page.items) == 2
    (line,) = service.audit(after=page.items[0].index, limit=1).items
    assert line == page.items[1]
    inclusion = service.audit_proof(line.index)
    path = [bytes.fromhex(value) for value in inclusion.hashes]
    merkle.check_inclusion(lines.leaf(line), line.index, inclusion.size, path, new.root)


def test_no_evidence_leaves_no_folder(front: World, service: Client, tmp_path: Path) -> None:
    queued = front.accept()
    with pytest.raises(ProblemError) as caught:
        service.evidence(queued, tmp_path / "evidence")
    assert caught.value.problem.type == "/problems/evidence-absent"
    assert list(tmp_path.glob("*evidence*")) == []


def tar(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for path, content in (("job/key.pem", tarfile.REGTYPE), (name, kind)):
            member = tarfile.TarInfo(path)
            member.type, member.linkname = content, "/etc/passwd"
            member.size = 1 if content == tarfile.REGTYPE else 0
            made.addfile(member, io.BytesIO(b"x"))
    return buffer.getvalue()


def served(data: bytes) -> Client:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=data, headers={"etag": '"e"'})

    return Client("http://service", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "data",
    [
        tar("../outside"),
        tar("/tmp/outside"),
        tar("job/../../outside"),
        tar("job/.hidden"),
        tar("outside"),
        tar("other/file"),
        tar("job/key.pem"),
        tar("job/link", tarfile.SYMTYPE),
        tar("job/link", tarfile.LNKTYPE),
        tar("job/device", tarfile.CHRTYPE),
        b"no tar",
        b"",
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(data: bytes, tmp_path: Path) -> None:
    target = tmp_path / "in" / "evidence"
    with served(data) as client, pytest.raises(UnsafeArchive):
        client.evidence("job", target)
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_an_archive_of_plain_files_is_unpacked(tmp_path: Path) -> None:
    with served(tar(f"job/{names.CARD}")) as client:
        folder = client.evidence("job", tmp_path / "evidence")
    assert (folder / names.CARD).read_bytes() == b"x"
