"""What can be wrong with a patch, or with what it is put on.

::

    PatchError
    ├── NotAPatch               the two files are not there, or the manifest breaks its schema
    ├── MalformedContainer      a file breaks the safetensors layout
    ├── UnsupportedFormat       a format version that this reader does not know
    ├── EntriesDisagree         manifest and patch.safetensors name different things
    ├── UnsafePath              a path or a link that could lead out of the folder
    ├── DigestMismatch          bytes are not the ones that were promised
    │   └── BaseMismatch        ... in the checkpoint: another model, or another version of it
    ├── TensorMissing           the checkpoint has no such file or tensor
    ├── NotACheckpoint          the folder holds no weights in safetensors
    ├── DestinationExists       nothing is ever overwritten
    ├── NotEnoughSpace          the disk cannot hold the result
    └── NothingToRevert         the folder keeps no undo data

Messages say what to do next. They name files, tensors and digests, never a person.
"""

from __future__ import annotations

from pathlib import Path


class PatchError(Exception):
    """The patch cannot be used."""


class NotAPatch(PatchError):
    """No readable patch here; name a folder that holds manifest.json and patch.safetensors."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(
            f"{folder} is not a patch: {reason}; "
            "name a folder that holds manifest.json and patch.safetensors"
        )


class MalformedContainer(PatchError):
    """The file breaks the safetensors layout; fetch it again, it may be cut short or damaged."""

    def __init__(self, reason: str, *, name: str = "the file") -> None:
        self.reason = reason
        self.name = name
        super().__init__(
            f"{name} is not a sound safetensors file: {reason}; "
            "fetch it again, it may be cut short or damaged"
        )


class UnsupportedFormat(PatchError):
    """The patch is of a format version that this reader does not know; use a newer RAZOR."""

    def __init__(self, found: object, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"the patch says format version {str(found)[:40]} and this reader knows {known}; "
            "use a RAZOR that knows it"
        )


class EntriesDisagree(PatchError):
    """Manifest and patch.safetensors contradict each other; ask for the patch again."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(
            f"manifest and patch.safetensors disagree on {key!r}: {reason}; ask for the patch again"
        )


class UnsafePath(PatchError):
    """A path or link could lead out of the folder; use plain files inside one folder."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path!r} is refused: {reason}; use plain files inside one folder "
            "(a folder of links becomes one with: cp -rL FOLDER COPY)"
        )


class DigestMismatch(PatchError):
    """The bytes are not the ones that were promised; fetch the file again."""

    def __init__(self, subject: str, *, expected: str, found: str, advice: str = "") -> None:
        self.subject = subject
        self.expected = expected
        self.found = found
        super().__init__(
            f"{subject} has sha256 {found} and should have {expected}; "
            + (advice or "it was changed or damaged on the way, fetch it again")
        )


class BaseMismatch(DigestMismatch):
    """The checkpoint is not what the patch was made for; apply it to that model and version."""

    def __init__(self, tensor: str, *, file: str, expected: str, found: str) -> None:
        self.tensor = tensor
        self.file = file
        super().__init__(
            f"tensor {tensor!r} in {file}",
            expected=expected,
            found=found,
            advice="this is not the checkpoint that the patch was made for; "
            "apply it to the model and version that the manifest names",
        )


class TensorMissing(PatchError):
    """The checkpoint lacks a tensor that the patch edits; apply it to the model it was made for."""

    def __init__(self, tensor: str, *, file: str, reason: str = "there is none") -> None:
        self.tensor = tensor
        self.file = file
        self.reason = reason
        super().__init__(
            f"the patch edits tensor {tensor!r} in {file}, and {reason}; "
            "apply it to the model and version that the manifest names"
        )


class NotACheckpoint(PatchError):
    """The folder holds no weights that a patch could change; name the folder of a checkpoint."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(f"{folder} is not a checkpoint folder: {reason}; name one that is")


class DestinationExists(PatchError):
    """The destination is there already; nothing is overwritten, so name a new one or remove it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} exists already and nothing is overwritten; name a new folder or remove it"
        )


class NotEnoughSpace(PatchError):
    """The disk cannot hold the result; free some space or name another destination."""

    def __init__(self, *, needed_bytes: int, free_bytes: int) -> None:
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        super().__init__(
            f"the result needs {needed_bytes} bytes and the disk has {free_bytes} free; "
            "free some space or name a destination on another disk"
        )


class NothingToRevert(PatchError):
    """The folder keeps no undo data; name a folder that `razor apply` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"{folder} keeps no undo data (.razor/undo); name a folder that `razor apply` wrote"
        )
