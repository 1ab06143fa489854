"""Is this evidence what it says? Answered from the files alone, and what that does not prove."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from api_schemas.audit import LoggedLine
from api_schemas.certificates import PREDICATE_TYPE, ErasureCertificate
from api_schemas.patches import PatchManifest
from api_schemas.reports import Report
from evidence import (
    archive,
    certificate,
    checkpoints,
    limits,
    lines,
    merkle,
    names,
    signing,
    statements,
)
from evidence import keys as key_files
from evidence.errors import Disagreement, EvidenceError, KeyUnusable, Malformed
from patches import verify as patch_checks
from patches.digests import file_digest
from patches.errors import PatchError
from patches.folder import canonical_json, parse_manifest
from patches.paths import regular_files

View = TypeVar("View", bound=BaseModel)

_MAX_SMALL_BYTES: Final = 64 << 20
_CERTIFICATE: Final = "the certificate"

#: What holds however many checks pass.
NOT_PROVEN: Final = (
    "That the figures are true: the service that signed them measured them. Apply the patch and "
    "measure with pictures of your own.",
    "That nothing about the subject is left in the weights: unlearning here is approximate, and "
    "low figures are no proof of absence.",
    "That the patched weights are the ones in use, or that copies of the earlier weights are gone.",
    "Whom the request was about: the certificate holds a keyed hash at most.",
    "That the times are right: they are the service's own clock.",
    "That the log is shown alike to everybody and left nothing out: compare its checkpoints with "
    "those that others hold, and with an older one by a consistency proof.",
    "That the version was not revoked after the checkpoint: ask the service for its line.",
)
#: Without a key from elsewhere.
KEY_NOT_PROVEN: Final = (
    "That the key in the folder is the service's: get the key's id from the service's operator on "
    "another way and compare, or give the key with --key."
)


@dataclass(frozen=True, slots=True)
class Check:
    """One question, whether the answer is good, the answer, and what a good one means."""

    name: str
    passed: bool
    detail: str
    means: str


@dataclass(frozen=True, slots=True)
class Result:
    """Every check in order, and what they do not prove even where all passed."""

    checks: tuple[Check, ...]
    not_proven: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(
    path: Path, *, key: bytes | None = None, base: Path | None = None, whole: bool = False
) -> Result:
    """Every check of the evidence folder, or the tar of one, at ``path``; all are made.

    ``key`` is the service's public key (PEM) as the auditor got it; ``base`` a checkpoint folder
    that the patch is for; ``whole`` as in :func:`patches.verify.verify`. Raises nothing of
    EvidenceError or PatchError: what is wrong is in the answers.
    """
    not_proven = NOT_PROVEN if key is not None else (*NOT_PROVEN, KEY_NOT_PROVEN)
    try:
        with archive.opened(path) as folder:
            checks = _checks(_Folder(folder, key), base, whole)
    except EvidenceError as error:
        checks = [Check("files", False, str(error), _MEANS["files"])]
    return Result(tuple(checks), not_proven)


class _Folder:
    """The files, each read and judged once, when first asked for."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        self.path = path
        self.given = key

    @functools.cached_property
    def key(self) -> key_files.PublicKey:
        found = key_files.read_public(self.read(names.KEY))
        if self.given is not None and key_files.read_public(self.given).id != found.id:
            raise KeyUnusable("the folder's key is not the one that you gave")
        return found

    @functools.cached_property
    def statement(self) -> statements.Statement:
        found = statements.read(self.read(names.CERTIFICATE), self.key, what=_CERTIFICATE)
        if found.predicate_type != PREDICATE_TYPE:
            raise Malformed(_CERTIFICATE, "it is a statement of another kind")
        return found

    @functools.cached_property
    def certificate(self) -> ErasureCertificate:
        try:
            return ErasureCertificate.model_validate(self.statement.predicate)
        except ValidationError as error:
            raise Malformed(_CERTIFICATE, "a field is missing or wrong") from error

    @functools.cached_property
    def manifest(self) -> PatchManifest:
        return parse_manifest(self.read(names.MANIFEST), folder=self.path / names.PATCH_FOLDER)

    @functools.cached_property
    def report(self) -> Report:
        return self._parsed(names.REPORT, Report)

    @functools.cached_property
    def logged(self) -> LoggedLine:
        return self._parsed(names.LOG, LoggedLine)

    @functools.cached_property
    def checkpoint(self) -> checkpoints.Checkpoint:
        return checkpoints.read(self.read(names.CHECKPOINT), self.key)

    def read(self, name: str) -> bytes:
        place = self.path / name
        if place.is_symlink() or not place.is_file() or place.stat().st_size > _MAX_SMALL_BYTES:
            raise Malformed(name, "it is missing, a link, or larger than it can be")
        return place.read_bytes()

    def _parsed(self, name: str, schema: type[View]) -> View:
        raw = self.read(name)
        try:
            found = schema.model_validate_json(raw)
            plain = canonical_json(found.model_dump(mode="json"))
        except ValueError as error:  # of the schema, or of a number that no JSON can hold
            raise Malformed(name, "a field is missing or wrong") from error
        if plain != raw:
            raise Malformed(name, "it is not in its one form")
        return found


_MEANS: Final = {
    "files": "nothing was added or left out",
    "key": "whose signatures the other checks look for",
    "certificate": "the holder of the key said this, in these words",
    "certificate's files": "these are the files that the holder of the key spoke of",
    "patch": "the patch is whole and fits its manifest",
    "patch signature": "the patch folder is as it was signed (OpenSSF Model Signing)",
    "figures": "the certificate says of method and figures what manifest and report say",
    "checkpoint": "the holder of the key committed to the log of this size",
    "log inclusion": "the line is in the log that the checkpoint commits to",
    "log line": "the log says of the job what the certificate says",
    "base": "what this folder of weights is to the patch",
}


def _checks(folder: _Folder, base: Path | None, whole: bool) -> list[Check]:
    steps: list[tuple[str, Callable[[_Folder], str]]] = [
        ("files", _files),
        ("key", _key),
        ("certificate", _certificate),
        ("certificate's files", _subjects),
        ("patch", _patch),
        ("patch signature", _patch_signature),
        ("figures", _figures),
        ("checkpoint", _checkpoint),
        ("log inclusion", _inclusion),
        ("log line", _line),
    ]
    if base is not None:
        steps.append(("base", functools.partial(_base, base=base, whole=whole)))
    checks = []
    for name, step in steps:
        try:
            checks.append(Check(name, True, step(folder), _MEANS[name]))
        except (EvidenceError, PatchError) as error:
            checks.append(Check(name, False, str(error), _MEANS[name]))
    return checks


def _files(folder: _Folder) -> str:
    found = {name for name, _ in regular_files(folder.path, hidden=True)}
    for name in sorted(found ^ set(names.ALL)):
        raise Malformed(name, "there is no such file in evidence" if name in found else "missing")
    return f"all {len(found)} are there, and no other"


def _key(folder: _Folder) -> str:
    origin = "the folder's own" if folder.given is None else "the one that you gave"
    return f"P-256, id {folder.key.id}, {origin}"


def _certificate(folder: _Folder) -> str:
    found = folder.certificate
    return (
        f"job {found.request.job_id}: {found.model.id} version {found.model.parent} became "
        f"{found.model.version}, gate {found.gate.verdict.value}, issued {found.issued_at}"
    )


def _subjects(folder: _Folder) -> str:
    subjects = folder.statement.subjects
    if sorted(subjects) != sorted(names.SUBJECTS):
        raise Malformed(_CERTIFICATE, "it speaks of other files than evidence has")
    for name, digest in subjects.items():
        place = folder.path / name
        if place.is_symlink() or not place.is_file() or file_digest(place) != digest:
            raise Disagreement(_CERTIFICATE, name, "its sha256")
    return f"each of {len(subjects)} files has the sha256 that it names"


def _patch(folder: _Folder) -> str:
    return _all_passed(patch_checks.verify(folder.path / names.PATCH_FOLDER))


def _base(folder: _Folder, *, base: Path, whole: bool) -> str:
    found = patch_checks.verify(folder.path / names.PATCH_FOLDER, base, whole=whole)
    return _all_passed([check for check in found if not check.passed or check.name in _OF_BASE])


_OF_BASE: Final = ("checkpoint", "whole folder")


def _all_passed(checks: Sequence[patch_checks.Check]) -> str:
    for check in checks:
        if not check.passed:
            raise Malformed(check.name, check.detail)
    return "; ".join(check.detail for check in checks)


def _patch_signature(folder: _Folder) -> str:
    for name in (names.SIGNATURE, names.MANIFEST, names.CARD):
        folder.read(name)
    key = folder.key
    signing.check_folder(folder.path / names.PATCH_FOLDER, key, folder.path / names.KEY)
    return "values, manifest and model card are those that were signed"


def _figures(folder: _Folder) -> str:
    said = folder.certificate
    made = certificate.make(
        certificate.Erasure(
            job_id=said.request.job_id,
            regulation=said.request.regulation,
            received_at=_moment(said.request.received_at),
            completed_at=_moment(said.request.completed_at),
            due_at=None if said.request.due_at is None else _moment(said.request.due_at),
            targets=said.request.targets,
            probes=(),
            patch_id=said.patch.id,
            version=said.model.version,
            manifest=folder.manifest,
            report=folder.report,
            subject=said.request.subject,
        ),
        issued_at=_moment(said.issued_at),
    )
    for field in ErasureCertificate.model_fields:
        if field != "limits" and getattr(said, field) != getattr(made, field):
            raise Disagreement(_CERTIFICATE, "manifest and report", field)
    if (
        folder.report.gate != folder.manifest.gate
        or folder.report.metrics != folder.manifest.metrics
    ):
        raise Disagreement(names.REPORT, names.MANIFEST, "what was measured")
    missing = {*limits.ALWAYS, *folder.report.warnings} - set(said.limits)
    if missing:
        raise Disagreement(_CERTIFICATE, names.REPORT, "the limits of what was measured")
    count = len(said.measurements) + len(said.attacks) + len(said.earlier)
    return f"{count} figures, {len(said.limits)} limits"


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Malformed(_CERTIFICATE, "a time is not one") from error
    if found.tzinfo is None:
        raise Malformed(_CERTIFICATE, "a time has no zone")
    return found


def _checkpoint(folder: _Folder) -> str:
    found = folder.checkpoint
    return f"{found.origin}, {found.size} lines, root {found.root.hex()}"


def _inclusion(folder: _Folder) -> str:
    line, proof, head = folder.logged.line, folder.logged.inclusion, folder.checkpoint
    if (proof.index, proof.size) != (line.index, head.size):
        raise Disagreement(names.LOG, names.CHECKPOINT, "the line's number or the log's size")
    try:
        path = [bytes.fromhex(value) for value in proof.hashes]
    except ValueError as error:
        raise Malformed(names.LOG, "a hash is not hex") from error
    leaf = lines.leaf(line)
    if leaf.hex() != line.leaf_hash:
        raise Malformed(names.LOG, "the line does not have the leaf that it names")
    merkle.check_inclusion(leaf, line.index, head.size, path, head.root)
    return f"line {line.index} of {head.size}"


def _line(folder: _Folder) -> str:
    line, said = folder.logged.line, folder.certificate
    expected = {
        "job": (line.object_id, said.request.job_id),
        "kind": (line.object_type, "job"),
        "end": (line.action, "job.succeeded"),
        "outcome": (line.details.get("outcome"), "patched"),
        "time": (line.at, said.request.completed_at),
        "patch": (line.details.get("patch_id"), said.patch.id),
        "patch's sha256": (line.details.get("patch_sha256"), said.patch.sha256),
        "version": (line.details.get("model_version"), said.model.version),
    }
    for field, (logged, certified) in expected.items():
        if logged != certified:
            raise Disagreement(names.LOG, _CERTIFICATE, field)
    return f"{line.action} at {line.at}"
