"""What can go wrong with reference pictures and reference networks.

ReferenceNetworkError
+-- UnknownSubjectError     a name or attribute that is not drawn here
+-- FolderError             a picture folder that cannot be read or written
+-- TrainingDataError       pictures that no network can be trained on
+-- WeightsError            a checkpoint folder that is missing or not what its record says
"""

from __future__ import annotations


class ReferenceNetworkError(Exception):
    """Something about the reference pictures or networks is wrong; the message says what to do."""


class UnknownSubjectError(ReferenceNetworkError, ValueError):
    """Not drawn here; choose from the tables in `razor.reference.people`."""


class FolderError(ReferenceNetworkError, ValueError):
    """Not a usable picture folder; it needs an index.csv with columns path, name, caption."""


class TrainingDataError(ReferenceNetworkError, ValueError):
    """Too little to train on; give at least two names with at least two pictures each."""


class WeightsError(ReferenceNetworkError, ValueError):
    """Not the checkpoint its record describes; install the package again or train it again."""
