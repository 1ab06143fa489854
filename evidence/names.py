"""The files of an evidence folder; no more and no fewer."""

from __future__ import annotations

from typing import Final

from evidence.signing import SIGNATURE_NAME
from patches.folder import FILE_NAME, MANIFEST_NAME

PATCH_FOLDER: Final = "patch"
PATCH: Final = f"{PATCH_FOLDER}/{FILE_NAME}"
MANIFEST: Final = f"{PATCH_FOLDER}/{MANIFEST_NAME}"
CARD: Final = f"{PATCH_FOLDER}/README.md"
SIGNATURE: Final = f"{PATCH_FOLDER}/{SIGNATURE_NAME}"
REPORT: Final = "report.json"
LOG: Final = "log.json"
CHECKPOINT: Final = "checkpoint.txt"
KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.dsse.json"

#: What the certificate names with their digests.
SUBJECTS: Final = (CARD, MANIFEST, SIGNATURE, PATCH, REPORT, LOG, CHECKPOINT, KEY)
ALL: Final = (*SUBJECTS, CERTIFICATE)
