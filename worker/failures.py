"""What an exception of a run means for its job: try again, or fail with a code. The only table."""

from __future__ import annotations

import errno
import traceback

from sqlalchemy.exc import OperationalError

from api_schemas.jobs import JobError
from patches.errors import PatchError
from razor import errors as science
from razor import room
from registry.errors import BlobMissing, PersonalDataGone

#: Exception -> (code, whether the caller may simply send the request again). First match counts.
FINAL: tuple[tuple[type[Exception], str, bool], ...] = (
    (science.CheckpointInvalid, "checkpoint_invalid", False),
    (science.PictureInvalid, "picture_invalid", False),
    (science.RetainSetInvalid, "retain_set_invalid", False),
    (science.TooFewPictures, "too_few_pictures", False),
    (science.MethodUnsupported, "method_unsupported", False),
    (science.EditDiverged, "edit_diverged", False),
    (science.OutOfMemory, "out_of_memory", False),
    (BlobMissing, "blob_missing", True),
    (PersonalDataGone, "personal_data_gone", True),
    (PatchError, "parent_patch_invalid", False),
)

#: What a full, read-only or broken disk says: waiting helps, a second run of the same job does not.
STORAGE_OUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

UNEXPECTED = JobError(
    code="internal",
    message="The run stopped on an unexpected error; the worker's log has it under this job's id.",
    retryable=True,
)


def final_error(error: Exception) -> JobError | None:
    """The error to fail with at once, or None where another attempt may do better.

    The message is the class's own words: an exception's text could hold a path or a name.
    """
    if room.is_shortage(error):
        error = science.OutOfMemory()
    for kind, code, retryable in FINAL:
        if isinstance(error, kind):
            words = (type(error).__doc__ or "").strip().split("\n")[0]
            return JobError(code=code, message=words, retryable=retryable)
    return None


def waited_for(error: Exception) -> str | None:
    """What a patch that cannot be stored waits for, None where waiting would not help."""
    if isinstance(error, OperationalError):
        return "database"
    if isinstance(error, OSError) and error.errno in STORAGE_OUT:
        return errno.errorcode[error.errno]
    return None


def described(error: BaseException) -> str:
    """The error's class and where it was raised, for the log; its text could hold a name."""
    frames = traceback.format_tb(error.__traceback__)
    causes = f", after {described(error.__cause__)}" if error.__cause__ else ""
    return f"{type(error).__name__} at\n{''.join(frames)}{causes}"
