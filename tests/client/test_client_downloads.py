"""Files arrive whole and checked, or not at all."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from broken_wire import FaultyWire, passes, refused
from front_world import World, bearer, sha256
from live_front import Live

from client import Client, DigestError, ProblemError, ServiceUnreachable, exchange
from patches import folder


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_downloaded_patch_is_the_patch_of_the_format(
    front: World, service: Client, tmp_path: Path
) -> None:
    job = front.finished()
    target = tmp_path / "out" / "patch"
    assert job.patch_id is not None
    view = service.download_patch(job.patch_id, target)
    assert names(target) == ["manifest.json", "patch.safetensors"]
    patch = folder.read_patch(target)
    folder.check_patch(patch)
    assert patch.manifest == view.manifest
    assert (target / "manifest.json").read_bytes() == folder.manifest_bytes(view.manifest)
    service.download_patch(job.patch_id, target)  # again, over the old one
    assert names(target) == ["manifest.json", "patch.safetensors"]


def test_a_patch_that_is_not_the_promised_one_is_not_kept(
    front: World, service: Client, tmp_path: Path
) -> None:
    job = front.finished()
    assert job.patch_id is not None
    digest = service.patch(job.patch_id).manifest.patch_sha256
    stored = front.parts.settings.blob_folder / digest[:2] / digest[2:4] / digest
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    with pytest.raises(DigestError) as caught:
        service.download_patch(job.patch_id, tmp_path / "out")
    assert caught.value.found == f"sha256 {sha256(bytes(data))}"
    assert names(tmp_path / "out") == []


def test_weights_arrive_whole(front: World, service: Client, tmp_path: Path) -> None:
    job = front.finished()
    assert job.patch_id is not None
    path = service.download_weights(job.patch_id, tmp_path / "deep" / "weights.safetensors")
    assert path.read_bytes() == front.expected_weights(1)
    assert names(path.parent) == [path.name]


def test_a_broken_download_goes_on_where_it_broke_off(
    server: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.downloads.PAUSES_SECONDS", (0.0, 0.0))
    job = server.world.finished()
    assert job.patch_id is not None
    wire = FaultyWire(passes)
    # More breaks than pauses: each bit of progress starts the count anew.
    wire._faults += [wire.breaks_after(30) for _ in range(5)]
    with Client(server.url, api_key=server.key, transport=wire) as service:
        path = service.download_weights(job.patch_id, tmp_path / "weights")
    assert path.read_bytes() == server.world.expected_weights(1)
    ranges = [request.headers.get("range") for request in wire.requests[1:]]
    assert ranges == [None, *(f"bytes={30 * number}-" for number in range(1, 6))]
    assert len({request.headers.get("if-range") for request in wire.requests[2:]}) == 1


def test_a_download_goes_on_in_a_later_call(
    server: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.downloads.PAUSES_SECONDS", ())
    job = server.world.finished()
    assert job.patch_id is not None
    wire = FaultyWire(passes)
    wire._faults.append(wire.breaks_after(40))
    with Client(server.url, api_key=server.key, transport=wire) as service:
        with pytest.raises(ServiceUnreachable):
            service.download_weights(job.patch_id, tmp_path / "weights")
        assert not (tmp_path / "weights").exists()
        service.download_weights(job.patch_id, tmp_path / "weights")
    assert wire.requests[-1].headers["range"] == "bytes=40-"
    assert (tmp_path / "weights").read_bytes() == server.world.expected_weights(1)


def test_a_part_of_other_weights_is_not_continued(
    server: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.downloads.PAUSES_SECONDS", ())
    first, second = server.world.finished(), server.world.finished()
    assert first.patch_id is not None
    assert second.patch_id is not None
    wire = FaultyWire(passes)
    wire._faults.append(wire.breaks_after(40))
    with Client(server.url, api_key=server.key, transport=wire) as service:
        with pytest.raises(ServiceUnreachable):
            service.download_weights(first.patch_id, tmp_path / "weights")
        service.download_weights(second.patch_id, tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == server.world.expected_weights(2)


def test_a_part_that_is_complete_needs_no_more(
    server: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = server.world.finished()
    assert job.patch_id is not None
    expected = server.world.expected_weights(1)
    etag = httpx.head(
        f"{server.url}/patches/{job.patch_id}/weights", headers=bearer(server.key)
    ).headers["etag"]
    (tmp_path / f".weights.{etag.strip(chr(34))[:16]}.part").write_bytes(expected)
    with Client(server.url, api_key=server.key) as service:
        service.download_weights(job.patch_id, tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == expected


def test_no_patch_no_file(service: Client, tmp_path: Path) -> None:
    for call in (service.download_patch, service.download_weights):
        with pytest.raises(ProblemError):
            call("pat_" + "0" * 32, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_service_that_stays_away_is_told_after_the_retries(
    server: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PAUSES_SECONDS", (0.0, 0.0))
    wire = FaultyWire(*[refused] * 9)
    with (
        Client(server.url, api_key=server.key, transport=wire) as service,
        pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1"),
    ):
        service.download_weights("pat_" + "0" * 32, tmp_path / "out")
    assert len(wire.requests) == 3
