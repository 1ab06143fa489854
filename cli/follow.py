"""Watching a job: a bar on a terminal, one plain line per change elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api_schemas.jobs import JobStatus, JobView
from cli.console import is_terminal, note, say
from cli.failures import Refused

if TYPE_CHECKING:
    from client import Client

OnChange = Callable[[JobView], None]


def follow(client: Client, job_id: str, *, timeout: float | None = None) -> JobView:
    """The job once it is final, shown on the way. Raises what ``Client.wait`` raises."""
    with _watcher() as on_change:
        return client.wait(job_id, on_change=on_change, timeout=timeout)


def conclude(job: JobView) -> None:
    """Say how a final job ended. Raises Refused (exit 1) unless it succeeded."""
    say(describe(job))
    if job.status is JobStatus.SUCCEEDED:
        return
    if job.status is JobStatus.REJECTED:
        raise Refused(f"the gate refused the result; see why with: razor status {job.id} --report")
    if job.error is not None:
        again = " Sending it again may help." if job.error.retryable else ""
        raise Refused(f"the job failed ({job.error.code}): {job.error.message}{again}")
    raise Refused(f"the job ended as {job.status}")


def describe(job: JobView) -> str:
    """One line on where a job stands."""
    parts = [job.id, str(job.status)]
    if job.outcome is not None:
        parts.append(str(job.outcome))
    if not job.status.is_final:
        parts += [job.progress.phase, f"{job.progress.fraction:.0%}"]
        if job.progress.eta_seconds is not None:
            parts.append(f"about {job.progress.eta_seconds:.0f} s left")
    if job.result is not None and job.result.patch_id is not None:
        parts.append(job.result.patch_id)
        if job.result.model_version is not None:
            parts.append(f"version {job.result.model_version} of {job.model}")
    return "  ".join(part for part in parts if part)


@contextmanager
def _watcher() -> Iterator[OnChange]:
    if not is_terminal():
        yield _Lines()
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("queued", total=1.0)

        def show(job: JobView) -> None:
            words = f"{job.status} {job.progress.phase if job.status is JobStatus.RUNNING else ''}"
            progress.update(
                task, description=words.strip(), completed=job.progress.fraction, refresh=True
            )

        yield show


class _Lines:
    """Prints a change once: a heartbeat that moved nothing is no change."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, job: JobView) -> None:
        percent = f"{job.progress.fraction:.0%}"
        line = "  ".join(part for part in (str(job.status), job.progress.phase, percent) if part)
        if line != self._last and not job.status.is_final:
            note(line)
        self._last = line
