"""A server that speaks S3, as a process of its own on the loopback. It checks signatures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx

from cli.stack import free_port

START_SECONDS = 60.0
#: What the server answers to anybody before it asks who they are: the making of the one account.
_FREE_CALLS = 3
_MAY_ALL = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
_POLICY = json.dumps({"Version": "2012-10-17", "Statement": [_MAY_ALL]})


@dataclass(frozen=True)
class S3Server:
    """A running server; ``variables`` lead boto3 to it with the credentials of its account."""

    url: str
    process: subprocess.Popen[bytes]
    key_id: str
    secret: str

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }

    def client(self) -> Any:
        """A plain client, to look behind our back."""
        return boto3.session.Session(self.key_id, self.secret).client(
            "s3", endpoint_url=self.url, region_name="us-east-1"
        )

    def pause(self) -> None:
        """The server answers nobody, until told to go on."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Ready when it comes, gone when the block ends; what it kept is gone too."""
    port = free_port()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
            env=variables | {"INITIAL_NO_AUTH_ACTION_COUNT": str(_FREE_CALLS)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        key = _make_account(url)
        yield S3Server(url, process, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "the S3 server ended while it started"
        assert time.monotonic() < deadline, "the S3 server does not come up"
        try:
            httpx.get(f"{url}/moto-api/data.json", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return


def _make_account(url: str) -> dict[str, str]:
    iam = boto3.session.Session("nobody", "nothing").client(
        "iam", endpoint_url=url, region_name="us-east-1"
    )
    iam.create_user(UserName="razor")
    iam.put_user_policy(UserName="razor", PolicyName="all", PolicyDocument=_POLICY)
    key: dict[str, str] = iam.create_access_key(UserName="razor")["AccessKey"]
    return key
