from __future__ import annotations

import httpx
import pytest
from cli_world import Ran, Run, Service

from cli import decisions, events, evidence, jobs, main, options, shelf, submit, webhooks
from client import Client


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``razor`` with these arguments."""

    def command(*arguments: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["razor", *arguments])
        code: object = 0
        try:
            main.app()
        except SystemExit as exit_:
            code = exit_.code or 0
        printed = capfd.readouterr()
        assert isinstance(code, int)
        return Ran(code, printed.out, printed.err)

    return command


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service in memory that every command talks to."""
    found = Service()

    def connect(url: str) -> Client:
        return Client(url, api_key=options.api_key(), transport=httpx.MockTransport(found))

    for module in (options, decisions, events, evidence, jobs, shelf, submit, webhooks):
        monkeypatch.setattr(module, "connect", connect)
    return found
