"""Where this installation keeps its blobs."""

from __future__ import annotations

from registry.blobs import BlobStore, LocalBlobs
from registry.settings import Settings


def store_of(settings: Settings) -> BlobStore:
    """The bucket that ``RAZOR_BLOBS_URL`` names, or the folder under the data folder.

    Raises ``StoreLibraryMissing``.
    """
    if settings.blobs_url is None:
        return LocalBlobs(settings.blob_folder)
    # Here, because boto3 is no part of the embedded default.
    from registry.s3 import S3Blobs

    return S3Blobs(settings.blobs_url)
