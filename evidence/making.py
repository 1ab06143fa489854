"""Everything but the patch file, made once for a finished job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from api_schemas.audit import LoggedLine
from api_schemas.certificates import PREDICATE_TYPE
from evidence import certificate, modelcard, names, signing, statements
from evidence.certificate import Erasure
from evidence.keys import SigningKey
from patches.digests import chunks_digest, file_digest
from patches.folder import canonical_json, manifest_bytes


def make(
    erasure: Erasure,
    open_patch: Callable[[], BinaryIO],
    logged: LoggedLine,
    checkpoint: str,
    key: SigningKey,
    *,
    scratch: Path,
    issued_at: datetime,
) -> dict[str, bytes]:
    """The files of the evidence folder by name, without ``patch.safetensors``.

    ``scratch`` is an empty folder with room for the patch; what is in it afterwards may go.
    """
    certified = certificate.make(erasure, issued_at=issued_at)
    folder = scratch / names.PATCH_FOLDER
    folder.mkdir()
    with open_patch() as source, (scratch / names.PATCH).open("wb") as target:
        shutil.copyfileobj(source, target)
    (scratch / names.MANIFEST).write_bytes(manifest_bytes(erasure.manifest))
    (scratch / names.CARD).write_bytes(modelcard.write(erasure.manifest, certified.limits))
    signing.sign_folder(folder, key)
    files = {
        name: (scratch / name).read_bytes()
        for name in (names.MANIFEST, names.CARD, names.SIGNATURE)
    }
    # Pictures show what was to be forgotten: they do not belong into a file that is kept.
    report = erasure.report.model_copy(update={"pictures": ()})
    files[names.REPORT] = canonical_json(report.model_dump(mode="json"))
    files[names.LOG] = canonical_json(logged.model_dump(mode="json"))
    files[names.CHECKPOINT] = checkpoint.encode()
    files[names.KEY] = key.public.pem
    subjects = {name: chunks_digest([data]) for name, data in files.items()}
    subjects[names.PATCH] = file_digest(scratch / names.PATCH)
    statement = statements.Statement(subjects, PREDICATE_TYPE, certified.model_dump(mode="json"))
    files[names.CERTIFICATE] = statements.sign(statement, key)
    return files
