"""Evidence that is whole passes; evidence that anybody touched anywhere does not."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from evidence_world import GOLDEN, PICTURE, SUBJECT, Made, erasure, make, manifest, report

from api_schemas.certificates import ErasureCertificate
from api_schemas.methods import Razor
from api_schemas.requests import Probe
from evidence import archive, keys, names, statements
from evidence.verify import KEY_NOT_PROVEN, NOT_PROVEN, verify
from patches.digests import checkpoint_digest
from patches.folder import manifest_bytes
from patches.segments import Literal


def failed(path: Path, **options: object) -> list[str]:
    result = verify(path, **options)  # type: ignore[arg-type]
    assert result.passed is all(check.passed for check in result.checks)
    return [check.name for check in result.checks if not check.passed]


def certificate_of(made: Made) -> ErasureCertificate:
    raw = made.files[names.CERTIFICATE]
    found = statements.read(raw, made.key.public, what="it")
    return ErasureCertificate.model_validate(found.predicate)


def test_whole_evidence_passes_every_check(pristine: Made) -> None:
    result = verify(pristine.folder, key=pristine.key.public.pem, base=GOLDEN / "base")
    assert [check.detail for check in result.checks if not check.passed] == []
    assert len(result.checks) == 11
    assert result.not_proven == NOT_PROVEN
    assert "the base" in result.checks[-1].detail


def test_without_a_key_from_elsewhere_it_says_so(pristine: Made) -> None:
    result = verify(pristine.folder)
    assert result.passed
    assert result.not_proven == (*NOT_PROVEN, KEY_NOT_PROVEN)


def places(size: int) -> list[int]:
    """Bytes all over a file: every one of a small file would take minutes in all."""
    return sorted({0, 1, size // 3, size // 2, 2 * size // 3, size - 2, size - 1})


@pytest.mark.parametrize("name", names.ALL)
def test_a_byte_flipped_in_any_file_is_noticed(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in places(len(whole)):
        for bit in (1, 32):
            changed = bytearray(whole)
            changed[place] ^= bit
            (folder / name).write_bytes(changed)
            assert failed(folder), f"byte {place} of {name}"
    (folder / name).write_bytes(whole)
    assert not failed(folder)  # the control: it was the byte


@pytest.mark.parametrize("name", names.ALL)
def test_a_file_that_is_missing_cut_or_a_link_is_noticed(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole + b"\n")
    assert failed(folder)
    (folder / name).write_bytes(whole[:-1])
    assert failed(folder)
    (folder / name).unlink()
    assert "files" in failed(folder)
    elsewhere = folder.parent / "elsewhere"
    elsewhere.write_bytes(whole)
    (folder / name).symlink_to(elsewhere)
    assert "files" in failed(folder)


@pytest.mark.parametrize("name", ["more.txt", ".hidden", "patch/.gitattributes", "patch/x.bin"])
def test_a_file_too_many_is_noticed(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    wrong = failed(folder)
    assert "files" in wrong
    assert ("patch signature" in wrong) is name.startswith("patch/")


def test_another_key_in_the_folder_is_not_the_one_given(folder: Path, tmp_path: Path) -> None:
    other = keys.load_or_create(tmp_path / "other.pem").public.pem
    assert "key" in failed(folder, key=other)
    (folder / names.KEY).write_bytes(other)
    assert {"certificate", "patch signature", "checkpoint"} <= set(failed(folder))


def test_evidence_that_was_all_signed_again_needs_the_right_key(
    pristine: Made, tmp_path: Path
) -> None:
    forged = make(tmp_path)
    assert not failed(forged.folder)
    assert "key" in failed(forged.folder, key=pristine.key.public.pem)


def test_parts_of_two_jobs_do_not_mix(pristine: Made, tmp_path: Path) -> None:
    """Each file is rightly signed; the checks that look across files must notice."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "evidence.pem").write_bytes(pristine.key.path.read_bytes())
    (tmp_path / "keys" / "evidence.pem").chmod(0o600)
    other = make(tmp_path, erasure(version=7, patch_id="pat_" + "9" * 32))
    assert not failed(other.folder)
    for name in (names.LOG, names.CHECKPOINT):
        (other.folder / name).write_bytes(pristine.files[name])
    assert set(failed(other.folder)) == {"certificate's files", "log line"}
    (other.folder / names.CHECKPOINT).write_bytes(other.files[names.CHECKPOINT])
    assert "log inclusion" in failed(other.folder)


def test_a_line_that_says_the_gate_refused_certifies_nothing(tmp_path: Path) -> None:
    assert failed(make(tmp_path, action="job.rejected").folder) == ["log line"]


def test_figures_that_manifest_and_report_do_not_hold_are_noticed(tmp_path: Path) -> None:
    found = manifest()
    better = [metric.model_copy(update={"after": metric.before}) for metric in found.metrics]
    lying = erasure(report=report(found, metrics=better))
    assert failed(make(tmp_path, lying).folder) == ["figures"]


def test_the_base_is_checked_where_it_is_given(folder: Path) -> None:
    assert failed(folder, base=GOLDEN / "base") == []
    assert failed(folder, base=GOLDEN / "patched") == []
    assert failed(folder, base=GOLDEN / "patch") == ["base"]
    assert failed(folder, base=GOLDEN / "base", whole=True) == ["base"]  # it names no real digest
    digest = checkpoint_digest(GOLDEN / "base")
    assert digest.startswith("sha256:")


def test_the_certificate_says_what_was_done_and_what_not(pristine: Made) -> None:
    said = certificate_of(pristine)
    assert said.request.received_at == "2026-03-01T12:00:00.000000Z"
    assert said.request.completed_at == "2026-03-01T15:00:00.000007Z"
    assert said.request.in_time is True
    assert said.request.subject == SUBJECT
    assert said.run.method == Razor().model_dump(mode="json")
    held = {one.metric.id: one for one in said.measurements}
    assert (held["M1"].threshold, held["M1"].metric.after.n) == (5.0, 20)
    assert held["M4"].threshold is None
    assert [one.metric.id for one in said.earlier] == ["M1_earlier"]
    text = "\n".join(said.limits)
    for phrase in (
        "no proof",
        "Copies",
        "M6 was not measured",
        "few pictures ☃",
        "linear classifier on picture features (asked for, but it gave no figure",
        "a few steps of training on the target's pictures (not asked for)",
        "more pictures could change the verdict",
    ):
        assert phrase in text
    assert "rounding the weights" not in text  # it was tried
    assert "M1 was not measured" not in text


def test_no_picture_is_in_it(pristine: Made) -> None:
    assert pristine.files
    assert not [name for name, data in pristine.files.items() if PICTURE.encode() in data]
    assert PICTURE.encode() in report(manifest()).model_dump_json().encode()  # the control


def test_earlier_versions_that_nobody_measured_again_are_named(tmp_path: Path) -> None:
    found = manifest()
    done = erasure(report=report(found, earlier=[], model_version=3), probes=tuple(Probe))
    text = "\n".join(certificate_of(make(tmp_path, done)).limits)
    assert "versions 1 to 3" in text
    assert "not asked for" not in text


def test_the_card_holds_figures_with_intervals_and_how_to_use_it(pristine: Made) -> None:
    card = pristine.files[names.CARD].decode()
    assert card.startswith('---\nbase_model: "')
    for phrase in ("2 (0.5 to 3.5)", "| 20 |", "after at most 5", "razor apply", "few pictures"):
        assert phrase in card
    assert pristine.files[names.MANIFEST] == manifest_bytes(manifest())


def tar_of(made: Made, folder: str = "job") -> bytes:
    kept = Literal(archive.head(folder, made.files))
    values = Literal((made.folder / names.PATCH).read_bytes())
    return b"".join(archive.whole(folder, kept, values).iter_range())


def test_the_tar_is_the_same_each_time_and_checked_as_the_folder_is(
    pristine: Made, tmp_path: Path
) -> None:
    data = tar_of(pristine)
    assert data == tar_of(pristine)
    path = tmp_path / "evidence.tar"
    path.write_bytes(data)
    assert archive.is_evidence(path)
    assert not failed(path)
    with tarfile.open(path) as tar:
        assert sorted(tar.getnames()) == sorted(f"job/{name}" for name in names.ALL)
        tar.extractall(tmp_path, filter="data")
    assert not failed(tmp_path / "job")


@pytest.mark.parametrize(
    "name", ["../key.pem", "/key.pem", "job/../key.pem", "other/key.pem", "job/more", "job/key.pem"]
)
def test_a_tar_with_a_member_of_its_own_is_refused(
    pristine: Made, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "evidence.tar"
    path.write_bytes(tar_of(pristine))
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    assert failed(path) == ["files"]


def test_a_link_or_no_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(f"job/{names.KEY}")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    assert failed(path) == ["files"]
    path.write_bytes(b"no tar at all")
    assert failed(path) == ["files"]
