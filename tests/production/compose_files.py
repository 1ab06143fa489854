"""What docker-compose.yml and the Dockerfiles say, read as compose and docker read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
#: Those that run our code, by the Dockerfile that makes their image.
OURS = {
    name: ROOT / service["build"]["dockerfile"]
    for name, service in SERVICES.items()
    if "build" in service
}
#: A line of a Dockerfile may go on in the next one.
_JOINED = re.compile(r"\\\n\s*")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction with its words, comments left out."""
    text = _JOINED.sub(" ", dockerfile.read_text("utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def last_stage(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of the image itself."""
    every = instructions(dockerfile)
    start = max(place for place, (name, _) in enumerate(every) if name == "FROM")
    return every[start:]


def image_environment(dockerfile: Path) -> dict[str, str]:
    """The variables that the image sets."""
    found: dict[str, str] = {}
    for name, words in last_stage(dockerfile):
        if name == "ENV":
            found |= dict(word.split("=", 1) for word in shlex.split(words))
    return found


def secrets_of(service: dict[str, Any]) -> dict[str, str]:
    """The secrets that a service is given: the name of the file it sees -> the secret's."""
    found = {}
    for one in service.get("secrets", ()):
        source = one if isinstance(one, str) else one["source"]
        target = one if isinstance(one, str) else one.get("target", source)
        found[target] = source
    return found
