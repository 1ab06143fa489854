from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import Run

from cli.examples import EXAMPLES, START

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "fastapi", "sqlalchemy", "celery", "httpx", "pydantic", "numpy", "open_clip")
#: Set, every start compiles every module again; nobody who waits for a help has it set.
UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
HELP = """
import sys
sys.argv = ["razor", "--help"]
from cli.main import app
try:
    app()
except SystemExit:
    pass
"""
AFTER = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}))
print("SECONDS", used.ru_utime + used.ru_stime)
"""


def ran(program: str) -> tuple[str, set[str], float]:
    """What it printed, the modules that were imported, the processor seconds it took."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{AFTER}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != UNCOMPILED},
        capture_output=True,
        text=True,
        check=True,
    )
    text, _, rest = done.stdout.rpartition("MODULES ")
    modules, _, seconds = rest.partition("\nSECONDS ")
    return text, set(modules.split()), float(seconds)


def test_help_imports_nothing_heavy() -> None:
    text, modules, _ = ran(HELP)
    assert "Make a deployed vision model forget" in text
    assert not modules & set(HEAVY)


def test_help_is_quick() -> None:
    # Processor seconds: a crowded machine must not fail it; the least of several, for a cold disk.
    assert min(ran(HELP)[2] for _ in range(4)) < 0.5


@pytest.mark.parametrize("command", EXAMPLES)
def test_each_command_has_help_with_its_examples(run: Run, command: str) -> None:
    found = run(*command.split(), "--help")
    assert found.code == 0
    flat = re.sub(r"\s+", " ", found.out)
    for example in EXAMPLES[command]:
        assert example in flat
    assert "\x1b" not in found.out


def _options(run: Run, command: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", run(*command.split(), "--help").out))


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_use_options_that_exist(run: Run, command: str) -> None:
    # The help without its examples: they may not vouch for themselves.
    text = run(*command.split(), "--help").out.partition("Examples:")[0]
    known = set(re.findall(r"--[a-z][a-z-]+", text))
    for example in EXAMPLES[command]:
        words = shlex.split(example.partition(" && ")[0])
        assert f"razor {command}" in example
        assert {word for word in words if word.startswith("--")} <= known
    assert "--nonsense" not in known


def test_the_start_names_commands_that_exist() -> None:
    named = {line.split()[1] for line in START if line.startswith("razor ")}
    assert named <= set(EXAMPLES)
    assert {"submit", "download", "apply"} <= named


def test_a_command_that_does_not_exist_is_a_usage_error(run: Run) -> None:
    assert run("forget").code == 2
    assert run("apply").code == 2
    assert run("up", "--workers", "0").code == 2
