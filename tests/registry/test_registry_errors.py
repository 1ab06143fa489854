"""One tree of errors; every class says what to do next."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

from api_schemas.jobs import JobStatus
from registry import errors

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, Exception) and cls.__module__ == errors.__name__
]
EXAMPLES = [
    errors.JobNotFound("job_1"),
    errors.JobFinished("job_1", JobStatus.FAILED),
    errors.JobUnfinished("job_1"),
    errors.JobSucceeded("job_1"),
    errors.SubjectRequestCancelled("job_1"),
    errors.PicturesGone("job_1"),
    errors.NotAwaitingApproval("job_1"),
    errors.OwnRequest("job_1"),
    errors.NotExtendable("job_1"),
    errors.AlreadyExtended("job_1"),
    errors.DeadlinePassed("job_1"),
    errors.ExtensionOutOfRange("job_1"),
    errors.LeaseLost("job_1", 3),
    errors.IllegalTransition(JobStatus.QUEUED, JobStatus.FAILED),
    errors.StaleParent("clip-a", expected=1, found=0),
    errors.InvalidCursor(),
    errors.IdempotencyConflict("job_1"),
    errors.ModelNotFound("clip-a"),
    errors.ModelExists("clip-a"),
    errors.RecordUnfit("retain", "there is no index.csv"),
    errors.VersionNotFound("clip-a", 3),
    errors.VersionRevoked("clip-a", 3),
    errors.BaseNotRevocable("clip-a", 0),
    errors.VersionWithdrawn("clip-a", 3),
    errors.RevocationBlocked("clip-a", 3),
    errors.PatchNotFound("pat_1"),
    errors.TenantNotFound("acme"),
    errors.TenantExists("acme"),
    errors.KeyNotFound("abc"),
    errors.KeyEnded("abc"),
    errors.LineNotFound(3),
    errors.TreeSizeInvalid(9),
    errors.BlobMissing("0" * 64),
    errors.InvalidDigest(),
    errors.StoreFailed(),
    errors.BucketMissing(),
    errors.StoreDenied(),
    errors.StoreUnreachable(),
    errors.StoreLibraryMissing(),
    errors.MigrationForbidden(),
    errors.RoleMissing("razor_app"),
    errors.RoleTooStrong("razor_app", ("is a superuser",)),
    errors.WebhookNotFound("whk_1"),
    errors.WebhookDisabled("whk_1"),
    errors.TooManyWebhooks(),
    errors.DeliveryNotFound("msg_1"),
    errors.KeyFileInvalid(Path("/data/razor.key")),
    errors.KeysMissing(),
    errors.SealBroken(),
    errors.PersonalDataGone("job_1"),
    errors.SubjectRequestNotFound("a7551968-d5d6-44b2-9831-815ac9017798"),
    errors.SubjectRequestConflict("a7551968-d5d6-44b2-9831-815ac9017798"),
    errors.SubjectRequestNotPending("a7551968-d5d6-44b2-9831-815ac9017798"),
]


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {cls.__name__ for cls in CLASSES} - {"RegistryError"}
    assert {type(example) for example in EXAMPLES} == set(CLASSES) - {errors.RegistryError}
    assert all(issubclass(cls, errors.RegistryError) for cls in CLASSES)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_message_is_the_docstring_and_says_what_to_do(error: errors.RegistryError) -> None:
    message = str(error)
    assert message == " ".join((type(error).__doc__ or "").split("\n\n")[0].split())
    assert re.search(r"[;,] .+\.$", message)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_processes(error: errors.RegistryError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
