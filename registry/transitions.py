"""Which state of a job may follow which: the one table that everything else asks.

``awaiting_approval`` is where a job of a tenant that wants four eyes begins: it goes to ``queued``
by somebody else's approval, and to ``canceled`` when that is declined or nobody wants it any more.
``queued`` goes to ``running`` by a claim, back by the reaper when a worker fell silent, or by the
worker itself when the version that it built on was revoked.
``canceling`` is a wish that a running worker has yet to answer. Its answer is told as it
happened: ``canceled`` when it stopped, or the real end when the work was done (or had failed)
before the wish arrived; a patch that is complete and passed its gate is published, because
hiding it would leave the record less true than the weights. A job in ``canceling`` never
returns to ``queued``: when its worker is gone, the reaper cancels it. A job that runs is never
``canceled`` without ``canceling`` in between, so every cancellation has someone who asked.

An end is final until somebody asks for a retry. What succeeded is never run again; what was never
approved waits for approval anew.
"""

from __future__ import annotations

from typing import Final

from api_schemas.jobs import FINAL, JobStatus, Outcome
from registry.errors import IllegalTransition

ALLOWED: Final[dict[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.AWAITING_APPROVAL: frozenset({JobStatus.QUEUED, JobStatus.CANCELED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELED}),
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.QUEUED,
            JobStatus.CANCELING,
            JobStatus.SUCCEEDED,
            JobStatus.REJECTED,
            JobStatus.FAILED,
        }
    ),
    JobStatus.CANCELING: FINAL,
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.REJECTED: frozenset({JobStatus.QUEUED}),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELED: frozenset({JobStatus.QUEUED, JobStatus.AWAITING_APPROVAL}),
}

#: The states in which a worker holds the job, and with it the job's model.
CLAIMED: Final = (JobStatus.RUNNING, JobStatus.CANCELING)


def check(old: JobStatus, new: JobStatus) -> None:
    """Pass if a job may move from ``old`` to ``new``; raises ``IllegalTransition`` if not."""
    if new not in ALLOWED[old]:
        raise IllegalTransition(old, new)


#: What a job in each final state can have come to.
OUTCOMES: Final[dict[JobStatus, frozenset[Outcome]]] = {
    JobStatus.SUCCEEDED: frozenset({Outcome.PATCHED, Outcome.NOTHING_TO_FORGET, Outcome.DRY_RUN}),
    JobStatus.REJECTED: frozenset({Outcome.GATE_REFUSED}),
    JobStatus.FAILED: frozenset({Outcome.ERROR}),
    JobStatus.CANCELED: frozenset({Outcome.CANCELED, Outcome.DECLINED}),
}


def check_ending(status: JobStatus, outcome: Outcome, *, has_patch: bool) -> None:
    """Pass if a job may end so; raises ``ValueError`` if the three contradict each other.

    ``patched`` comes with a patch, ``gate_refused`` with or without one, the rest with none.
    """
    if outcome not in OUTCOMES.get(status, frozenset()):
        raise ValueError(f"a job that came to {outcome.value} does not end as {status.value}")
    if has_patch and outcome not in {Outcome.PATCHED, Outcome.GATE_REFUSED}:
        raise ValueError(f"a job that came to {outcome.value} leaves no patch")
    if outcome is Outcome.PATCHED and not has_patch:
        raise ValueError("a job that came to patched leaves a patch")
