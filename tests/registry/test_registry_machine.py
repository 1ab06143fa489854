"""Chance calls the registry in any order; its laws hold after every step.

``RAZOR_SEARCH_EXAMPLES=5000`` searches on with other draws every time, on longer paths.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from registry_machine import Registry

from registry.database import Database

SEARCH = int(os.environ.get("RAZOR_SEARCH_EXAMPLES", "0"))
#: Examples for each database: SQLite shows the same and costs a third.
EXAMPLES = {"sqlite": 20, "postgresql": 4}


@pytest.mark.timeout(0 if SEARCH else 600)
def test_the_registry_keeps_its_laws_under_chance(database: Database) -> None:
    with database.transaction() as session:
        dialect = session.get_bind().dialect.name
    run_state_machine_as_test(
        lambda: Registry(database),
        settings=settings(
            max_examples=SEARCH or EXAMPLES[dialect],
            stateful_step_count=80 if SEARCH else 40,
            derandomize=not SEARCH,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
