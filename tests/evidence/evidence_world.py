"""A finished job's evidence, made from the golden patch with a key and a log of the tests' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from api_schemas.audit import InclusionProof, LoggedLine
from api_schemas.methods import Razor
from api_schemas.patches import PatchManifest
from api_schemas.reports import (
    Better,
    Cost,
    EarlierResult,
    Gate,
    GateCheck,
    Measurement,
    MetricResult,
    PictureGrid,
    Report,
    Verdict,
)
from api_schemas.requests import Probe
from evidence import certificate, checkpoints, keys, lines, making, merkle, names
from patches import folder as patch_folder

GOLDEN = Path(__file__).parent.parent / "patches" / "golden" / "v1"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JOB = "job_" + "1" * 32
PATCH = "pat_" + "2" * 32
SUBJECT = "hmac-sha256:" + "5" * 64
PICTURE = "bm90IGEgcGljdHVyZQ=="


def metric(name: str, after: float = 2.0) -> MetricResult:
    def figure(value: float) -> Measurement:
        return Measurement(value=value, n=20, interval=(value - 1.5, value + 1.5))

    return MetricResult(
        id=name,
        name=f"what {name} is",
        definition="Share of pictures.",
        unit="percent",
        better=Better.LOWER,
        before=figure(97.5),
        after=figure(after),
        change=figure(after - 97.5),
    )


def gate() -> Gate:
    check = GateCheck(
        metric="M1", rule="after at most", threshold=5.0, found=2.0, passed=True, weak=True
    )
    return Gate(verdict=Verdict.PASS, weak_evidence=True, checks=[check])


def manifest() -> PatchManifest:
    found = patch_folder.read_patch(GOLDEN / "patch").manifest
    method = Razor().model_dump(mode="json")
    run = found.provenance.model_copy(update={"method": method, "libraries": {"torch": "2"}})
    changes = {"metrics": [metric("M1"), metric("M4", 90.0)], "gate": gate(), "provenance": run}
    return found.model_copy(update=changes)


def report(found: PatchManifest, **changes: object) -> Report:
    made = Report(
        model=found.model.id,
        model_version=found.model.parent,
        method="razor",
        seed=0,
        roles=found.roles,
        preflight=[],
        metrics=found.metrics,
        robustness=[metric("M1_int8"), metric("M1_partial")],
        earlier=[EarlierResult(version=None, metric=metric("M1_earlier"))],
        gate=found.gate,
        scores=[],
        edited=found.units,
        weights_changed=3,
        weights_total=100,
        patch_bytes=found.patch_bytes,
        pictures=(PictureGrid(target=0, of_target=1, of_retained=1, png=PICTURE),),
        warnings=["few pictures ☃"],
        cost=Cost(
            wall_seconds=1.5,
            phase_seconds={},
            forward_passes=1,
            backward_passes=1,
            peak_memory_bytes=1,
        ),
    )
    return made.model_copy(update=changes)


def erasure(**changes: object) -> certificate.Erasure:
    found = manifest()
    values = {
        "job_id": JOB,
        "regulation": "gdpr",
        "received_at": START,
        "completed_at": START + timedelta(hours=3, microseconds=7),
        "due_at": START + timedelta(days=31),
        "targets": 1,
        "probes": (Probe.QUANTIZE, Probe.PROMPTS, Probe.LINEAR),
        "patch_id": PATCH,
        "version": found.model.parent + 1,
        "manifest": found,
        "report": report(found),
        "subject": SUBJECT,
    }
    return certificate.Erasure(**(values | changes))  # type: ignore[arg-type]


class Log:
    """A log in memory: leaves in a list, nodes computed when asked for."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        self.leaves.append(leaf)

    def node(self, level: int, place: int) -> bytes:
        if not level:
            return self.leaves[place]
        return merkle.node_hash(
            self.node(level - 1, 2 * place), self.node(level - 1, 2 * place + 1)
        )


@dataclass
class Made:
    """An evidence folder and the key that signed it."""

    folder: Path
    key: keys.SigningKey
    files: dict[str, bytes]


def make(
    root: Path,
    done: certificate.Erasure | None = None,
    *,
    before: Sequence[bytes] = (b"a", b"b", b"c"),
    action: str = "job.succeeded",
) -> Made:
    """The whole folder at ``root/evidence``."""
    done = done or erasure()
    key = keys.load_or_create(root / "keys" / "evidence.pem")
    log = Log()
    for data in before:
        log.add(merkle.leaf_hash(data))
    line = lines.make(
        index=len(before),
        at=done.completed_at,
        tenant="tenant-a",
        actor="worker:w1",
        action=action,
        object_type="job",
        object_id=done.job_id,
        details={
            "outcome": "patched",
            "patch_id": done.patch_id,
            "patch_sha256": done.manifest.patch_sha256,
            "model_version": done.version,
        },
    )
    log.add(lines.leaf(line))
    log.add(merkle.leaf_hash(b"later"))
    size = len(log.leaves)
    proof = merkle.inclusion(line.index, size, log.node)
    logged = LoggedLine(
        line=line,
        inclusion=InclusionProof(index=line.index, size=size, hashes=[h.hex() for h in proof]),
    )
    head = checkpoints.Checkpoint("razor-audit", size, merkle.root(size, log.node))
    values = GOLDEN / "patch" / patch_folder.FILE_NAME
    scratch = root / "scratch"
    scratch.mkdir()
    files = making.make(
        done,
        lambda: values.open("rb"),
        logged,
        checkpoints.sign(head, key),
        key,
        scratch=scratch,
        issued_at=START + timedelta(days=1),
    )
    folder = root / "evidence"
    (folder / names.PATCH_FOLDER).mkdir(parents=True)
    for name, data in (files | {names.PATCH: values.read_bytes()}).items():
        (folder / name).write_bytes(data)
    return Made(folder, key, files)
