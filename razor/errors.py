"""What can go wrong in the science.

RazorError
├── Cancelled                the caller asked to stop
├── CheckpointInvalid        the folder cannot be loaded as the family that was named
├── PictureInvalid           a picture cannot be decoded
├── RetainSetInvalid         the retain folder or its index cannot be used
├── TooFewPictures           there are not enough pictures to fit, select and test
├── MethodUnsupported        the method has no meaning for this model
├── OutOfMemory              not even one row fits into the device's memory
├── ExportImpossible         a patch has no form of the kind that was asked for
└── EditDiverged             the edit produced values that are not finite
"""

from __future__ import annotations


class RazorError(Exception):
    """The run could not be done; the message says what to do next."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or (type(self).__doc__ or "").split("\n")[0])


class Cancelled(RazorError):
    """The run was cancelled between two steps; the model is as it was before."""


class CheckpointInvalid(RazorError):
    """The checkpoint folder cannot be loaded; check the model's record and its files."""


class PictureInvalid(RazorError):
    """A picture cannot be decoded; send JPEG, PNG or WEBP."""


class RetainSetInvalid(RazorError):
    """The retain set cannot be used; it needs an index.csv with path, name and caption."""


class TooFewPictures(RazorError):
    """There are too few pictures to fit, select and test; send at least three."""


class MethodUnsupported(RazorError):
    """The method cannot edit a model of this architecture; choose another method."""


class OutOfMemory(RazorError):
    """The run needs more memory than the worker has; give it more, or a model that is smaller."""


class ExportImpossible(RazorError):
    """The patch cannot be written in this form; use razor apply instead."""


class EditDiverged(RazorError):
    """The edit produced values that are not finite; lower max_step_ratio and try again."""
