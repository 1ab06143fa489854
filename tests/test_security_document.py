"""The table of risks names tests that exist, and every risk."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(test_\w+)`")


def rows(text: str) -> dict[str, list[str]]:
    """The tests that each row of the table names."""
    lines = [line for line in text.splitlines() if re.match(r"\| API\d+ ", line)]
    return {line.split()[1]: NAMED.findall(line) for line in lines}


def known() -> set[str]:
    """Every test function of the suite."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_risk_has_tests_that_exist() -> None:
    found = rows((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert list(found) == [f"API{number}" for number in range(1, 11)]
    tests = known()
    for risk, named in found.items():
        assert named, risk
        assert set(named) <= tests, (risk, sorted(set(named) - tests))
    # The control: a name of no test is not among them.
    assert "test_that_nobody_wrote" not in tests


def test_the_upgrade_document_names_tests_that_exist() -> None:
    named = NAMED.findall((ROOT / "docs" / "upgrade.md").read_text(encoding="utf-8"))
    assert named
    assert set(named) <= known()
