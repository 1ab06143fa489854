"""From a request over HTTP to patched weights, through real processes; and through a kill -9."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import transformers
from PIL import Image

from api_schemas.concepts import Target
from api_schemas.jobs import JobStatus, Outcome
from api_schemas.methods import Razor, Uce
from api_schemas.requests import Evaluation, UnlearnRequest
from cli import shipped
from client import Client
from patches import apply as patch_apply
from patches import digests
from patches import verify as patch_verify
from razor.reference import painted
from razor.reference.clip import shipped_clip
from registry.stores import store_of
from tests.e2e.conftest import Running
from tests.e2e.traces_left import nothing_is_left

#: The library's classes come without types.
LIBRARY: Any = transformers
PERSON = "Mara Venn"
SECONDS = 170.0
#: A family is the worker's alone, whatever the stack: each is tested on one of the two.
EMBEDDED = "embedded"
PRODUCTION = pytest.param(
    "production", marks=[pytest.mark.postgres, pytest.mark.redis, pytest.mark.s3]
)


def ask(running: Running, client: Client, draw: Callable[[str, int], bytes]) -> str:
    running.stack.wait_ready(threading.Event())
    request = UnlearnRequest(model="reference-clip", target=Target(name=PERSON))
    samples = [draw(PERSON, 5_000_000 + number) for number in range(8)]
    return client.submit(request, samples).id


@pytest.mark.timeout(300)
@pytest.mark.parametrize("running", [PRODUCTION], indirect=True)
def test_a_picture_generator_forgets_over_http(running: Running, tmp_path: Path) -> None:
    """The same request, the same job, the same patch; the download is a folder for diffusers."""
    running.stack.wait_ready(threading.Event())
    samples = [plain_png("Sami Orvane", 5_000_000 + number) for number in range(4)]
    request = UnlearnRequest(
        model="reference-diffusion",
        target=Target(name="Sami Orvane"),
        method=Uce(),
        evaluation=Evaluation(pictures=8, probes=()),
    )
    with Client(running.url, api_key=running.key) as client:
        job_id = client.submit(request, samples).id
        job = client.wait(job_id, timeout=SECONDS)
        assert job.result is not None, job.error
        report = client.evaluation(job_id)
        found = {metric.id: metric for metric in report.metrics}
        assert found["UA"].before.value < found["UA"].after.value
        assert {"IRA", "CRA", "KID", "S"} <= set(found)
        (grid,) = report.pictures
        assert grid.png is None, "it showed the target, and is deleted"
        assert grid.of_target
        patch_id = job.result.patch_id or ""
        assert client.weights_are_a_folder(patch_id)
        tar = client.download_weights(patch_id, tmp_path / "weights.tar")
        with tarfile.open(tar) as archive:
            archive.extractall(tmp_path / "weights", filter="data")
        client.download_patch(patch_id, tmp_path / "patch")
        base = shipped.checkpoint_folder("diffusion")
        patch_apply.apply(tmp_path / "patch", base, tmp_path / "patched")
        weights = digests.checkpoint_digest(tmp_path / "weights")
        assert weights == digests.checkpoint_digest(tmp_path / "patched")
        assert weights != digests.checkpoint_digest(base)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("running", [EMBEDDED], indirect=True)
def test_a_vision_language_model_forgets_a_name_over_http(
    running: Running, draw_png: Callable[[str, int], bytes], tmp_path: Path
) -> None:
    """The same request, the same job, the same patch; plain transformers loads the result."""
    running.stack.wait_ready(threading.Event())
    person, base = "Oskar Brill", shipped.checkpoint_folder("llava")
    request = UnlearnRequest(
        model="reference-llava",
        target=Target(name=person),
        method=Razor(steps=16),  # forgets as well as the default, and harms more
        evaluation=Evaluation(probes=()),
    )
    samples = [draw_png(person, 5_000_000 + number) for number in range(8)]
    fresh = [draw_png(person, 5_000_100 + number) for number in range(4)]
    with Client(running.url, api_key=running.key) as client:
        job_id = client.submit(request, samples, fresh).id
        job = client.wait(job_id, timeout=SECONDS)
        assert job.result is not None, job.error
        found = {metric.id: metric for metric in client.evaluation(job_id).metrics}
        assert found["NR"].before.value >= 80
        assert found["NR"].after.value <= 10
        assert found["RNR"].change.value >= -30
        assert found["VQA"].change.value >= -10
        patch_id = job.result.patch_id or ""
        client.download_patch(patch_id, tmp_path / "patch")
        client.download_weights(patch_id, tmp_path / "weights.safetensors")
    patch_apply.apply(tmp_path / "patch", base, tmp_path / "patched")
    applied = (tmp_path / "patched" / "model.safetensors").read_bytes()
    assert applied == (tmp_path / "weights.safetensors").read_bytes()
    before, after = (said_of(folder, fresh) for folder in (base, tmp_path / "patched"))
    assert sum(person in text for text in before) >= 3
    assert not any(person in text for text in after)


def said_of(folder: Path, drawings: list[bytes]) -> list[str]:
    """What a folder's model answers when asked who that is, by plain transformers."""
    processor = LIBRARY.AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = LIBRARY.AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    content = [{"type": "image"}, {"type": "text", "text": "Who is this?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    pictures = [Image.open(io.BytesIO(drawing)) for drawing in drawings]
    inputs = processor(text=[text] * len(pictures), images=pictures, return_tensors="pt")
    said = model.float().generate(**inputs, max_new_tokens=20, do_sample=False)
    words: list[str] = processor.batch_decode(
        said[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return words


@pytest.mark.timeout(300)
def test_kill_minus_nine_in_the_middle_loses_nothing_and_doubles_nothing(
    running: Running, draw_png: Callable[[str, int], bytes], tmp_path: Path
) -> None:
    parent = psutil.Process(running.stack.workers[0].pid)
    assert not any("libtorch" in region.path for region in parent.memory_maps())
    with Client(running.url, api_key=running.key) as client:
        job_id = ask(running, client, draw_png)
        deadline = time.monotonic() + SECONDS
        while client.job(job_id).progress.phase not in ("score", "edit"):
            assert time.monotonic() < deadline, running.stack.workers[0].tail()
            time.sleep(0.02)
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
        until = time.monotonic() + SECONDS
        while client.job(job_id).erased_at is None:
            assert time.monotonic() < until
            time.sleep(0.2)
    settings, names = running.stack.settings, (PERSON, "Sami Orvane", "Oskar Brill")
    sent = [draw_png(PERSON, 5_000_000 + number) for number in range(8)]
    nothing_is_left(settings.data_folder, settings.database, names, sent, store_of(settings))


def check_download(client: Client, patch_id: str, folder: Path) -> None:
    """What was downloaded verifies, applies, and equals the weights that the service streams."""
    checks = patch_verify.verify(folder / "patch", shipped_clip())
    assert all(check.passed for check in checks), checks
    patch_apply.apply(folder / "patch", shipped_clip(), folder / "patched")
    client.download_weights(patch_id, folder / "weights.safetensors")
    applied = (folder / "patched" / "open_clip_model.safetensors").read_bytes()
    streamed = (folder / "weights.safetensors").read_bytes()
    assert hashlib.sha256(applied).digest() == hashlib.sha256(streamed).digest()


def plain_png(name: str, seed: int) -> bytes:
    stream = io.BytesIO()
    painted.plain(name, seed).image.save(stream, "PNG")
    return stream.getvalue()
