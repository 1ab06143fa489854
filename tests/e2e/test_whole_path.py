"""From a request over HTTP to patched weights, through real processes; and through a kill -9."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from api_schemas.concepts import Target
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.requests import UnlearnRequest
from client import Client
from patches import apply as patch_apply
from patches import verify as patch_verify
from razor.reference.clip import shipped_clip
from tests.e2e.conftest import Running

PERSON = "Mara Venn"
SECONDS = 170.0


def ask(running: Running, client: Client, draw: Callable[[str, int], bytes]) -> str:
    running.stack.wait_ready(threading.Event())
    request = UnlearnRequest(model="reference-clip", target=Target(name=PERSON))
    samples = [draw(PERSON, 5_000_000 + number) for number in range(8)]
    return client.submit(request, samples).id


@pytest.mark.timeout(300)
def test_kill_minus_nine_in_the_middle_loses_nothing_and_doubles_nothing(
    running: Running, draw_png: Callable[[str, int], bytes], tmp_path: Path
) -> None:
    with Client(running.url) as client:
        job_id = ask(running, client, draw_png)
        deadline = time.monotonic() + SECONDS
        while client.job(job_id).progress.phase not in ("score", "edit"):
            assert time.monotonic() < deadline, running.stack.workers[0].tail()
            time.sleep(0.1)
        parent = psutil.Process(running.stack.workers[0].pid)
        assert not any("libtorch" in region.path for region in parent.memory_maps())
        children = parent.children(recursive=True)
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "the child dies with its parent"
        assert not client.job(job_id).status.is_final

        running.another_worker()
        job = client.wait(job_id, timeout=SECONDS)
        assert (job.status, job.outcome) == (JobStatus.SUCCEEDED, Outcome.PATCHED), job.error
        assert job.attempts == 2
        assert job.result is not None
        assert job.result.model_version == 1
        versions = client.versions("reference-clip").items
        assert [version.job_id for version in versions] == [None, job_id]

        patch = client.download_patch(job.result.patch_id or "", tmp_path / "patch")
        assert patch
        check_download(client, job.result.patch_id or "", tmp_path)
        logs = running.stack.settings.data_folder / "logs"
        written = b"".join(file.read_bytes() for file in logs.iterdir()).lower()
        assert b"mara" not in written
        assert b"mara" not in client.metrics().lower().encode()


def check_download(client: Client, patch_id: str, folder: Path) -> None:
    """What was downloaded verifies, applies, and equals the weights that the service streams."""
    checks = patch_verify.verify(folder / "patch", shipped_clip())
    assert all(check.passed for check in checks), checks
    patch_apply.apply(folder / "patch", shipped_clip(), folder / "patched")
    client.download_weights(patch_id, folder / "weights.safetensors")
    applied = (folder / "patched" / "open_clip_model.safetensors").read_bytes()
    streamed = (folder / "weights.safetensors").read_bytes()
    assert hashlib.sha256(applied).digest() == hashlib.sha256(streamed).digest()
