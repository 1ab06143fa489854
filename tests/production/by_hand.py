"""The compose file's processes, started by hand: its variables, commands, secrets and checks.

Only addresses and folders are others: what compose gives each container is put under one folder of
this machine, and the names of services become ports of the loopback.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compose_files import OURS, ROOT, SERVICES, image_environment, secrets_of

SECONDS = 300.0
#: What the processes take of the machine's own variables; all others are compose's.
INHERITED = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}


@dataclass
class Machine:
    """A folder that stands for the containers.

    ``places``: parts of what stands in the files -> what stands for them here; ``folders``: the
    same for whole values.
    """

    folder: Path
    places: Mapping[str, str]
    folders: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """The text with this machine's addresses and folders."""
        if text in self.folders:
            return self.folders[text]
        for there, place in self.places.items():
            # A port is a whole number: passwords have digits too.
            edge = r"\b" if there.isdigit() else ""
            text = re.sub(f"{edge}{re.escape(there)}{edge}", place, text)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """What the service's process would see, and nothing else of ours."""
        said = image_environment(OURS[name]) | SERVICES[name]["environment"]
        mounted = self.folder / "run" / name
        mounted.mkdir(parents=True, exist_ok=True)
        for target, source in secrets_of(SERVICES[name]).items():
            text = self.here((self.folder / "secrets" / source).read_text("utf-8"))
            file = mounted / target
            # A process that is starting may be reading it: what stands there already is left alone.
            if not file.exists() or file.read_text("utf-8") != text:
                file.write_text(text, "utf-8")
        found = {variable: self.here(value) for variable, value in said.items()}
        found = {key: value.replace("/run/secrets", str(mounted)) for key, value in found.items()}
        return found | INHERITED

    def command(self, words: list[str]) -> list[str]:
        """The words with this machine's Python, addresses and folders."""
        assert words[0] == "python"
        return [sys.executable, *(self.here(word) for word in words[1:])]

    def log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.folder / f"{name}.log"

    def run(self, name: str, words: list[str] | None = None) -> str:
        """A service's command, or another one in its place, to its end; what it printed."""
        done = subprocess.run(
            self.command(words or SERVICES[name]["command"]),
            env=self.environment(name),
            cwd=self.folder / "data",
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        with self.log(name).open("a", encoding="utf-8") as log:
            log.write(re.sub(r"rzr_\S+", "(the key)", done.stdout) + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str) -> None:
        """The service runs, and its own health check says so."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                self.command(SERVICES[name]["command"]),
                env=self.environment(name),
                cwd=self.folder / "data",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.running[name] = process
        deadline = time.monotonic() + SECONDS
        while not self.is_healthy(name):
            assert process.poll() is None, self.log(name).read_text("utf-8")
            assert time.monotonic() < deadline, self.log(name).read_text("utf-8")
            time.sleep(0.2)

    def is_healthy(self, name: str) -> bool:
        """What the service's health check says."""
        kind, *words = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self.command(words), env=self.environment(name), capture_output=True, timeout=SECONDS
        )
        return done.returncode == 0

    def stop(self) -> None:
        """Everything that was started has ended, the last one first."""
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def copied_secrets(made: Path, folder: Path) -> None:
    """The made secrets are in the machine's folder, to be changed there."""
    shutil.copytree(made, folder / "secrets")


def source_tree() -> str:
    """Where the images have our packages."""
    return str(ROOT)
