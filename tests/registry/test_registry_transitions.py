"""The table of moves: complete, one-way, and with no way around it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.jobs import FINAL, JobStatus, Outcome
from registry.errors import IllegalTransition
from registry.transitions import ALLOWED, CLAIMED, OUTCOMES, check, check_ending

STATUSES = st.sampled_from(JobStatus)


def test_every_state_has_its_row() -> None:
    assert set(ALLOWED) == set(JobStatus)


@given(STATUSES, STATUSES)
def test_check_passes_exactly_what_the_table_allows(old: JobStatus, new: JobStatus) -> None:
    if new in ALLOWED[old]:
        check(old, new)
    else:
        with pytest.raises(IllegalTransition) as caught:
            check(old, new)
        assert (caught.value.old, caught.value.new) == (old, new)


def test_only_a_retry_leads_out_of_an_end_and_none_out_of_a_success() -> None:
    waiting = {JobStatus.QUEUED, JobStatus.AWAITING_APPROVAL}
    assert {status for status, following in ALLOWED.items() if following <= waiting} == FINAL
    assert {status for status in FINAL if not ALLOWED[status]} == {JobStatus.SUCCEEDED}


def test_what_awaits_approval_runs_only_by_way_of_the_queue() -> None:
    assert ALLOWED[JobStatus.AWAITING_APPROVAL] == {JobStatus.QUEUED, JobStatus.CANCELED}
    # What failed or was refused had been approved; what was canceled may not have been.
    entries = {old for old in JobStatus if JobStatus.AWAITING_APPROVAL in ALLOWED[old]}
    assert entries == {JobStatus.CANCELED}


def test_every_state_is_reached_and_every_path_can_end() -> None:
    def reachable(start: JobStatus) -> set[JobStatus]:
        seen, frontier = {start}, [start]
        while frontier:
            for following in ALLOWED[frontier.pop()] - seen:
                seen.add(following)
                frontier.append(following)
        return seen

    assert reachable(JobStatus.QUEUED) == set(JobStatus)
    assert reachable(JobStatus.AWAITING_APPROVAL) == set(JobStatus)
    assert all(reachable(status) & FINAL for status in JobStatus)


def test_a_canceled_run_is_never_queued_again() -> None:
    assert JobStatus.QUEUED not in ALLOWED[JobStatus.CANCELING]


def test_who_runs_is_never_canceled_without_having_been_asked() -> None:
    assert JobStatus.CANCELED not in ALLOWED[JobStatus.RUNNING]


def test_only_a_claim_leads_into_the_claimed_states() -> None:
    entries = {old for old in JobStatus if ALLOWED[old] & set(CLAIMED)} - set(CLAIMED)
    assert entries == {JobStatus.QUEUED}


def test_every_outcome_belongs_to_one_final_state() -> None:
    assert set(OUTCOMES) == FINAL
    assert sorted(itertools.chain.from_iterable(OUTCOMES.values())) == sorted(Outcome)


@given(STATUSES, st.sampled_from(Outcome), st.booleans())
def test_an_ending_must_not_contradict_itself(
    status: JobStatus, outcome: Outcome, has_patch: bool
) -> None:
    fits = outcome in OUTCOMES.get(status, ())
    patch_fits = {Outcome.PATCHED: has_patch, Outcome.GATE_REFUSED: True}.get(
        outcome, not has_patch
    )
    if fits and patch_fits:
        check_ending(status, outcome, has_patch=has_patch)
    else:
        with pytest.raises(ValueError, match="a job that came to"):
            check_ending(status, outcome, has_patch=has_patch)
