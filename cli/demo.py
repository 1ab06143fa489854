"""``razor demo``: the product from end to end over HTTP, on real weights, checked from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.console import note, say, table
from cli.failures import Refused

if TYPE_CHECKING:
    from api_schemas.jobs import JobView
    from cli.classify import Counts
    from client import Client

TARGET: Final = "Mara Venn"
SAMPLES: Final = 8
UNSEEN_TARGET: Final = 40
UNSEEN_OTHERS: Final = 10
#: What counts as forgotten and as kept, on pictures that the service never saw.
FORGOTTEN_PERCENT: Final = 5.0
KEPT_POINTS: Final = 2.0
_COMMAND_SECONDS: Final = 120
#: Far above what a job takes: a crowded machine must not turn a success into a failure.
_JOB_SECONDS: Final = 900


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the requester keeps things: apart from the service's data folder."""

    folder: Path
    checkpoint: Path
    client: Client

    @property
    def samples(self) -> Path:
        """The pictures that go with the request."""
        return self.folder / "samples"

    @property
    def unseen(self) -> Path:
        """Pictures that the service never sees."""
        return self.folder / "unseen"

    @property
    def patch(self) -> Path:
        """The patch as downloaded."""
        return self.folder / "patch"

    @property
    def patched(self) -> Path:
        """The shipped weights with the patch on them."""
        return self.folder / "patched"


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="An empty or new folder to work in. Default: a temporary one."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything there to look at.")
    ] = False,
) -> None:
    """Show the whole product: a real network forgets one person, and nothing else.

    Starts the service on a free port, asks it over HTTP to forget one of the invented people,
    checks and applies the patch with the commands you would use, loads the result with plain
    open_clip, and measures it on pictures that the service never saw. Takes about a minute.

    Exit code 0 only if the person is forgotten and the others are kept.
    """
    started = time.monotonic()
    folder = _workplace(data)
    try:
        _show(folder)
    finally:
        if keep or data is not None:
            note(f"everything is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(f"done in {time.monotonic() - started:.0f} s", "bold green")


def _show(folder: Path) -> None:
    from cli.options import settings
    from cli.shipped import checkpoint_folder
    from cli.stack import Stack, free_port
    from cli.up import first_key, prepare_database, register_shipped, stop_signals
    from client import Client

    # Variables of a real installation must not lead the demonstration into its database.
    for name in [name for name in os.environ if name.startswith("RAZOR_")]:
        del os.environ[name]
    chosen = settings(folder / "service", host="127.0.0.1", port=free_port())
    with _step("a fresh database in an empty folder, and the first API key"):
        prepare_database(chosen)
        issued = first_key(chosen)
        assert issued is not None, "the folder was empty"
    with stop_signals() as stopping, Stack(chosen, say=note) as stack:
        with _step("service, worker, and a model on the shelf") as done:
            register_shipped(chosen)
            stack.wait_ready(stopping)
            done.append(stack.url)
        with Client(stack.url, api_key=issued.text) as client:
            desk = Desk(folder, checkpoint_folder(), client)
            with _step(f"{SAMPLES} sample pictures; others kept aside that nobody sees"):
                _draw(desk)
            job = _forget(desk)
            patch_id = _fetch(desk, job)
            _apply(desk)
            with _step("the service streams the same weights, byte for byte") as done:
                done.append(_compare_stream(desk, patch_id))
            _judge(desk)
            _take_back(desk)
            _metrics(client)


def _draw(desk: Desk) -> None:
    from cli.shipped import SAMPLES_SEED, UNSEEN_SEED
    from razor.reference.folders import INDEX, write_folder
    from razor.reference.people import NAMES

    write_folder(desk.samples, [TARGET], SAMPLES, SAMPLES_SEED)
    others = [name for name in NAMES if name != TARGET]
    write_folder(desk.unseen, others, UNSEEN_OTHERS, UNSEEN_SEED)
    more = write_folder(desk.folder / "more", [TARGET], UNSEEN_TARGET, UNSEEN_SEED)
    lines = (more / INDEX).read_text(encoding="utf-8").splitlines(keepends=True)[1:]
    with (desk.unseen / INDEX).open("a", encoding="utf-8") as index:
        index.writelines(lines)
    for picture in more.glob("*.png"):
        picture.rename(desk.unseen / picture.name)
    shutil.rmtree(more)


def _forget(desk: Desk) -> JobView:
    from cli.figures import show_report
    from cli.follow import conclude, follow
    from cli.pictures import picture_files
    from cli.shipped import MODEL_ID
    from cli.submit import build_request

    request = build_request({"model": MODEL_ID, "target": {"name": TARGET}})
    with _step("POST /unlearn, and the job from queued to its end") as done:
        job = desk.client.submit(request, picture_files([desk.samples]))
        job = follow(desk.client, job.id, timeout=_JOB_SECONDS)
        done.append(f"{job.id} {job.status}")
    show_report(desk.client.evaluation(job.id))
    conclude(job)
    return job


def _fetch(desk: Desk, job: JobView) -> str:
    if job.result is None or job.result.patch_id is None:
        raise Refused(f"the job left no patch: {job.outcome}")
    with _step("the patch downloaded, and checked by `razor verify`"):
        desk.client.download_patch(job.result.patch_id, desk.patch)
        _razor("verify", str(desk.patch), "--checkpoint", str(desk.checkpoint), "--whole")
    return job.result.patch_id


def _apply(desk: Desk) -> None:
    place = ("--checkpoint", str(desk.checkpoint), "--out", str(desk.patched))
    with _step("the patch on the shipped weights, by `razor apply`"):
        _razor("apply", str(desk.patch), *place)


def _compare_stream(desk: Desk, patch_id: str) -> str:
    from cli.jobs import weights_name
    from patches.digests import file_digest
    from patches.folder import read_patch

    name = weights_name(read_patch(desk.patch).manifest)
    streamed = desk.client.download_weights(patch_id, desk.folder / name)
    one, other = file_digest(streamed), file_digest(desk.patched / name)
    if one != other:
        raise Refused(
            f"GET /patches/{patch_id}/weights has sha256 {one}, razor apply wrote {other}"
        )
    return f"sha256 {one[:16]}…"


def _judge(desk: Desk) -> None:
    from razor.reference.captions import PROMPTS

    templates = desk.folder / "templates.json"
    templates.write_text(json.dumps(PROMPTS["name"]), encoding="utf-8")
    script = Path(__file__).with_name("classify.py")
    with _step("both checkpoints in plain open_clip, on pictures that the service never saw"):
        checkpoints = (str(desk.checkpoint), str(desk.patched))
        output = _run(
            [sys.executable, "-P", str(script), str(desk.unseen), str(templates), *checkpoints]
        )
    base, patched = (json.loads(line) for line in output.splitlines())
    others = [name for name in base if name != TARGET]
    rows = []
    for label, names in ((TARGET, [TARGET]), ("everybody else", others)):
        before, after = percent(base, names), percent(patched, names)
        shown = sum(base[name][1] for name in names)
        rows.append((label, f"{before:.1f} %", f"{after:.1f} %", str(shown)))
    worst = min(others, key=lambda name: percent(patched, [name]) - percent(base, [name]))
    before, after = percent(base, [worst]), percent(patched, [worst])
    rows.append((f"hit hardest: {worst}", f"{before:.1f} %", f"{after:.1f} %", str(base[worst][1])))
    table(("recognised", "shipped", "patched", "pictures"), rows)
    check(base, patched, others)


def percent(counts: Counts, names: Sequence[str]) -> float:
    """Share of pictures of these names that were recognised, in percent."""
    right = sum(counts[name][0] for name in names)
    return 100 * right / sum(counts[name][1] for name in names)


def check(base: Counts, patched: Counts, others: Sequence[str]) -> None:
    """The target was known, is forgotten, and the others are kept; else Refused."""
    known, left = percent(base, [TARGET]), percent(patched, [TARGET])
    fall = percent(base, others) - percent(patched, others)
    if known <= FORGOTTEN_PERCENT:
        raise Refused("the shipped weights do not know the person, so nothing was shown")
    if left > FORGOTTEN_PERCENT:
        raise Refused(f"not forgotten: {left:.1f} % of unseen pictures are still recognised")
    if fall > KEPT_POINTS:
        raise Refused(f"others were harmed: recognition of them fell by {fall:.1f} points")
    say(
        f"forgotten: from {known:.1f} % to {left:.1f} %, at most {FORGOTTEN_PERCENT:g} % asked; "
        f"others fell by {fall:.1f} points, at most {KEPT_POINTS:g} asked",
        "green",
    )


def _take_back(desk: Desk) -> None:
    from patches.digests import checkpoint_digest

    with _step("the patch taken off again, by `razor revert`"):
        _razor("revert", str(desk.patched))
        names = sorted(path.name for path in desk.checkpoint.iterdir())
        same = names == sorted(path.name for path in desk.patched.iterdir())
        if not same or checkpoint_digest(desk.patched) != checkpoint_digest(desk.checkpoint):
            raise Refused("reverting did not give the shipped weights back")
        say(f"    every file is the shipped one again: {checkpoint_digest(desk.patched)}")


def _metrics(client: Client) -> None:
    with _step("what an operator sees at /metrics"):
        for line in client.metrics().splitlines():
            if line.startswith("razor_jobs") and not line.endswith(" 0.0"):
                say(f"    {line}")


def _razor(*arguments: str) -> None:
    """Run the real command, as its own process, and show it with what it prints."""
    say(f"    $ razor {' '.join(arguments)}", "dim")
    source = str(Path(__file__).resolve().parent.parent)
    program = f"import sys; sys.path.insert(0, {source!r}); from cli.main import app; app()"
    for line in _run([sys.executable, "-P", "-c", program, *arguments]).splitlines():
        say(f"    {line}")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise Refused(f"a step ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _step(title: str) -> Iterator[list[str]]:
    """Announce a step; then say how long it took and what the block put into the list."""
    say(f"* {title}", "bold")
    started = time.monotonic()
    remarks: list[str] = []
    yield remarks
    say("  ".join([f"    {time.monotonic() - started:.1f} s", *remarks]), "dim")


def _workplace(data: Path | None) -> Path:
    if data is None:
        return Path(tempfile.mkdtemp(prefix="razor-demo-"))
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise Refused(
            f"{data} is not empty; name a new folder, so that nothing of yours is touched"
        )
    data.mkdir(parents=True, exist_ok=True)
    return data.resolve()
