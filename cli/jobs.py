"""``razor status``, ``wait``, ``cancel``, ``retry``, ``download``, ``report``: a submitted job."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import note, say, table
from cli.failures import Refused
from cli.options import DEFAULT_URL, JobId, Json, Url, connect

if TYPE_CHECKING:
    from api_schemas.jobs import JobPage, JobView
    from api_schemas.patches import PatchManifest
    from api_schemas.reports import Report

REPORT_NAME = "report.json"
#: What a generator painted before and after, for each target.
GRID_NAME = "pictures-{}.png"


def status(
    job: Annotated[
        str | None, typer.Argument(help="The job's id; the latest jobs when left out.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Also what was measured.")] = False,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show where a job stands, or the latest jobs."""
    with connect(url) as client:
        if job is None:
            _show_page(client.jobs(), json)
            return
        _show_job(client.job(job), json)
        if report:
            _show_evaluation(client.evaluation(job), json)


def wait(
    job: JobId,
    timeout: Annotated[
        float | None, typer.Option(help="Give up after this many seconds.", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Follow a job to its end. Exit code 0 only if it succeeded."""
    from cli.follow import conclude, follow

    with connect(url) as client:
        conclude(follow(client, job, timeout=timeout))


def cancel(job: JobId, url: Url = DEFAULT_URL) -> None:
    """Stop a job; the model stays as it was. Asking twice does no harm."""
    from cli.follow import describe

    with connect(url) as client:
        say(describe(client.cancel(job)))


def retry(job: JobId, url: Url = DEFAULT_URL) -> None:
    """Run a failed, rejected or canceled job again, under its id and with the same pictures."""
    from cli.follow import describe

    with connect(url) as client:
        say(describe(client.retry(job)))


def download(
    job: JobId,
    out: Annotated[Path, typer.Option(help="Folder for the patch; made when it is not there.")],
    weights: Annotated[
        bool, typer.Option("--weights", help="Also the whole patched weights, ready to load.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch a finished job's patch (manifest.json, patch.safetensors) and its report.json.

    Of a picture generator also pictures-N.png: painted before the edit above, after it below, for
    as long as the tenant keeps a job's pictures (retention_days).

    Every digest is checked on arrival.
    """
    with connect(url) as client:
        patch_id = _patch_of(client.job(job))
        client.download_patch(patch_id, out)
        manifest = _checked(out)
        report = client.evaluation(job)
        (out / REPORT_NAME).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for grid in report.pictures:
            if grid.png is None:
                note("the pictures painted for the report are deleted, as the samples are")
            else:
                (out / GRID_NAME.format(grid.target)).write_bytes(b64decode(grid.png))
        say(f"{out}: {patch_id}, every digest checked")
        if weights:
            whole_folder = client.weights_are_a_folder(patch_id)
            name = "weights.tar" if whole_folder else weights_name(manifest)
            target = out / "weights" / name
            client.download_weights(patch_id, target)
            say(f"{target}: {target.stat().st_size} bytes")


def report(
    job: JobId,
    out: Annotated[
        Path, typer.Option(help="The page's file; one that is there already is replaced.")
    ],
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch a finished job's report as one HTML page, to read, print or file."""
    with connect(url) as client:
        page = client.report_page(job)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(page)
    say(f"{out}: {len(page)} bytes")


def weights_name(manifest: PatchManifest) -> str:
    """The name of the one weights file of a checkpoint that is no folder of several."""
    return manifest.tensors[0].file.rpartition("/")[2]


def _checked(folder: Path) -> PatchManifest:
    from patches.folder import check_patch, read_patch

    patch = read_patch(folder)
    check_patch(patch)
    return patch.manifest


def _patch_of(view: JobView) -> str:
    if not view.status.is_final:
        raise Refused(f"the job is still {view.status}; follow it with: razor wait {view.id}")
    if view.result is None or view.result.patch_id is None:
        why = view.outcome or view.status
        raise Refused(f"the job left no patch ({why}); see: razor status {view.id} --report")
    if view.result.model_version is None:
        note("note: the gate refused this patch; it is for inspection, not for use")
    return view.result.patch_id


def _show_page(page: JobPage, json: bool) -> None:
    if json:
        say(page.model_dump_json(indent=2))
        return
    rows = [
        (one.id, str(one.status), one.model, f"{one.created_at:%Y-%m-%d %H:%M}", _due(one))
        for one in page.items
    ]
    table(("job", "status", "model", "created (UTC)", "due"), rows)


def _show_job(view: JobView, json: bool) -> None:
    from cli.follow import describe

    if json:
        say(view.model_dump_json(indent=2))
        return
    say(describe(view))
    if view.extended_from is not None:
        say(f"due {_due(view)} instead of {view.extended_from:%Y-%m-%d}: {view.extension_reason}")
    if view.result is not None and view.result.revoked_at is not None:
        again = view.result.rerun
        after = f"made anew by {again}" if again else "post the request again with its pictures"
        say(f"its version was revoked; {after}")
    if view.error is not None:
        say(f"{view.error.code}: {view.error.message}")


def _show_evaluation(report: Report, json: bool) -> None:
    from cli.figures import show_report

    if json:
        say(report.model_dump_json(indent=2))
    else:
        show_report(report)


def _due(job: JobView) -> str:
    return f"{job.due_at:%Y-%m-%d}" if job.due_at is not None else "-"
