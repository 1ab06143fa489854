"""How this installation runs: one frozen set of values, read from ``RAZOR_*`` variables."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)
from sqlalchemy import URL

from api_schemas.messages import QUEUE
from registry.database import Limits

MEBIBYTE = 2**20
#: How far the broker's patience lies above the time limit: start, upload and clean-up of a run.
VISIBILITY_MARGIN_SECONDS = 600
#: The share of the time limit, and at most the seconds, a run gets to wind down in.
SOFT_LIMIT_RATIO = 0.05
SOFT_LIMIT_SECONDS = 60
#: How often a worker looks for a message file: what a job waits at most on an idle machine.
FILE_POLLING_SECONDS = 0.2


#: Names a folder of files that are called as variables are and hold their values: for secrets.
SECRETS_VARIABLE = "RAZOR_SECRETS_FOLDER"
#: Names and addresses of this machine that nobody else can reach.
LOOPBACK = frozenset({"127.0.0.1", "::1", "[::1]", "localhost"})
#: Public keys only: with a symmetric algorithm, the key that checks tokens could also make them.
OidcAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


def _absolute(path: Path) -> Path:
    """Resolve once, so that a later change of folder (a daemon's, a worker's) changes nothing."""
    return path.expanduser().resolve()


class Settings(BaseSettings):
    """Everything an operator can set. The defaults run the whole service on one machine.

    Two processes with equal variables agree on database, blobs, broker and limits.
    """

    # A value that is refused may be a secret in the wrong place: errors do not show it.
    model_config = SettingsConfigDict(env_prefix="RAZOR_", frozen=True, hide_input_in_errors=True)

    data_folder: Annotated[Path, AfterValidator(_absolute)] = Field(
        default=Path("data"), validate_default=True
    )
    # The addresses may hold passwords: repr=False keeps them out of logs and tracebacks.
    database_url: str | None = Field(default=None, repr=False)
    broker_url: str | None = Field(default=None, repr=False)
    #: Where blobs are if not in the data folder: ``s3://bucket/prefix``. The rest is boto3's own.
    blobs_url: str | None = Field(
        default=None, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?$"
    )

    #: Who signs the broker's certificate, for rediss://; the system's authorities if left out.
    broker_ca_file: Annotated[Path, AfterValidator(_absolute)] | None = None
    #: How long anybody waits for an answer of the database; a request then gets 503.
    database_wait_seconds: PositiveFloat = 15.0
    #: PostgreSQL only: kept connections, further ones for a rush, and how long a statement may
    #: take or an open transaction stay idle.
    database_connections: PositiveInt = 5
    database_more_connections: int = Field(default=40, ge=0)
    database_statement_seconds: PositiveFloat = 60.0

    key_file: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None, description="The installation's key; made in the data folder if left out."
    )
    retention_days: int = Field(
        default=0, ge=0, le=3650, description="How long pictures and names outlive their job."
    )
    sweep_seconds: PositiveFloat = 600.0
    # Where models may lie that are registered over HTTP; unset, none are.
    models_folder: Annotated[Path, AfterValidator(_absolute)] | None = None
    #: A caller waits while the weights are hashed: half a minute for so many from a usual disk.
    max_model_bytes: PositiveInt = 16 * 1024 * MEBIBYTE

    host: str = "127.0.0.1"
    port: int = Field(default=8731, ge=0, le=65535)
    worker_metrics_port: int | None = Field(default=None, ge=0, le=65535)

    lease_seconds: PositiveFloat = 15.0
    heartbeat_seconds: PositiveFloat = 3.0
    max_attempts: PositiveInt = 3
    relay_seconds: PositiveFloat = 0.2
    recovery_seconds: PositiveFloat = 2.0
    resend_after_seconds: PositiveFloat = 30.0
    job_time_limit_seconds: int = Field(default=3600, ge=2)
    #: What a worker may keep on disk of a model version, to begin sooner after a restart; 0 = none.
    cache_bytes: int = Field(default=4096 * MEBIBYTE, ge=0)
    #: How soon a worker tries again to store what a full disk did not take.
    storage_pause_seconds: PositiveFloat = 5.0

    #: How many wrong tokens an address may try in a minute before it has to wait.
    auth_failures_per_minute: PositiveInt = 20
    # An identity provider whose tokens are taken besides API keys: all three, or none.
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    #: Address or file of the provider's public keys.
    oidc_jwks: str | None = None
    oidc_algorithms: tuple[OidcAlgorithm, ...] = ("RS256", "ES256")
    oidc_tenant_claim: str = "tenant"
    oidc_scopes_claim: str = "scope"
    oidc_leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    #: How soon the keys are fetched again for a token that names an unknown one.
    oidc_refresh_seconds: PositiveFloat = 300.0
    webhook_seconds: PositiveFloat = 0.5
    #: How long a message that is delivered or dead stays in the delivery log.
    webhook_log_days: int = Field(default=30, ge=1, le=3650)
    #: For tests and one machine: http to the loopback and https to private addresses are called.
    webhook_allow_private: bool = False
    #: What seals the webhooks' secrets in the database; a file in the data folder unless set.
    webhook_key_file: Annotated[Path, AfterValidator(_absolute)] | None = None
    #: The facade for privacy platforms: the name they know this processor by, and what signs.
    opendsr_domain: str = Field(
        default="localhost", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*$"
    )
    opendsr_key_file: Annotated[Path, AfterValidator(_absolute)] | None = None
    opendsr_certificate_file: Annotated[Path, AfterValidator(_absolute)] | None = None
    opendsr_seconds: PositiveFloat = 2.0

    max_sample_bytes: PositiveInt = 10 * MEBIBYTE
    max_body_bytes: PositiveInt = 128 * MEBIBYTE
    max_image_pixels: PositiveInt = 40_000_000
    max_image_side: PositiveInt = 10_000

    #: The key that signs evidence; made on first use. Whoever holds it can sign in our name.
    evidence_key_file: Path | None = None
    #: What checkpoints call the audit log: one word, best a name that only this installation has.
    audit_origin: str = Field(default="razor-audit", pattern=r"^[^\s+]{1,200}$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed, then variables, then the files of the folder of secrets, if it is named.

        A file is called as its variable, in lower case if you like: ``razor_database_url``.
        """
        folder = os.environ.get(SECRETS_VARIABLE)
        if not folder:
            return init_settings, env_settings
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, folder)

    @model_validator(mode="after")
    def _provider_is_whole(self) -> Self:
        named = [self.oidc_issuer, self.oidc_audience, self.oidc_jwks]
        if any(named) and not all(named):
            raise ValueError("set RAZOR_OIDC_ISSUER, _AUDIENCE and _JWKS together, or none of them")
        source = self.oidc_jwks or ""
        address = urlsplit(source)
        here = address.scheme == "http" and address.hostname in LOOPBACK and "@" not in source
        if "://" in source and address.scheme != "https" and not here:
            # Whoever stands on the way could hand us keys of their own.
            raise ValueError("RAZOR_OIDC_JWKS must be a file or an https address")
        if not self.oidc_algorithms:
            raise ValueError("RAZOR_OIDC_ALGORITHMS must name at least one algorithm")
        return self

    @property
    def is_public(self) -> bool:
        """Whether the front listens to more than this machine."""
        return self.host not in LOOPBACK

    @property
    def evidence_key(self) -> Path:
        """The file of the signing key: in the data folder unless one is set."""
        return self.evidence_key_file or self.data_folder / "keys" / "evidence.pem"

    @model_validator(mode="after")
    def _check_opendsr_files(self) -> Self:
        if (self.opendsr_key_file is None) != (self.opendsr_certificate_file is None):
            raise ValueError("set both opendsr_key_file and opendsr_certificate_file, or neither")
        return self

    @property
    def database(self) -> str:
        """The database's address: SQLite in the data folder unless one is set."""
        if self.database_url is not None:
            return self.database_url
        url = URL.create("sqlite", database=str(self.data_folder / "razor.db"))
        return url.render_as_string(hide_password=False)

    @property
    def database_limits(self) -> Limits:
        """What the database's address is opened with."""
        return Limits(
            self.database_connections,
            self.database_more_connections,
            self.database_wait_seconds,
            self.database_statement_seconds,
        )

    @property
    def broker(self) -> str:
        """The broker's address: files in the data folder unless one is set."""
        return self.broker_url or "filesystem://"

    @property
    def blob_folder(self) -> Path:
        """Where ``LocalBlobs`` keeps its files."""
        return self.data_folder / "blobs"

    @property
    def webhook_key(self) -> Path:
        """The key file: made by whoever needs it first, shared by every front."""
        return self.webhook_key_file or self.data_folder / "webhooks.key"

    @property
    def key_path(self) -> Path:
        """Where the installation's key is: in the data folder unless a file is set."""
        return self.key_file or self.data_folder / "razor.key"

    @property
    def work_folder(self) -> Path:
        """Where files are in the making; what a crash leaves here is swept."""
        return self.data_folder / "work"

    @property
    def cache_folder(self) -> Path:
        """What workers keep to begin sooner; it may be deleted at any time."""
        return self.data_folder / "cache"

    def celery_config(self) -> dict[str, object]:
        """What both ends of the broker pass to Celery's ``app.conf.update``, so that they agree.

        Creates the broker's folders when the broker is made of files.
        """
        limit_seconds = self.job_time_limit_seconds
        soft_margin_seconds = min(SOFT_LIMIT_SECONDS, max(1, int(limit_seconds * SOFT_LIMIT_RATIO)))
        # Above the time limit in all three places, or a long job is delivered twice.
        visibility = {"visibility_timeout": limit_seconds + VISIBILITY_MARGIN_SECONDS}
        return {
            "broker_url": self.broker,
            "broker_transport_options": self._transport_options() | visibility,
            "broker_use_ssl": self._broker_tls(),
            "result_backend_transport_options": visibility,
            **visibility,
            "broker_connection_retry_on_startup": True,
            "broker_pool_acquire_timeout": 5.0,
            "task_default_queue": QUEUE,
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "task_acks_on_failure_or_timeout": True,
            "task_ignore_result": True,
            "task_time_limit": limit_seconds,
            "task_soft_time_limit": limit_seconds - soft_margin_seconds,
            "worker_prefetch_multiplier": 1,
            "task_serializer": "json",
            "result_serializer": "json",
            "event_serializer": "json",
            "accept_content": ["json"],
            "enable_utc": True,
            "timezone": "UTC",
        }

    def _broker_tls(self) -> dict[str, object] | None:
        """How the broker is made sure of; None where its address does not ask for TLS."""
        if not self.broker.startswith("rediss:"):
            return None
        checks: dict[str, object] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        if self.broker_ca_file is not None:
            checks["ssl_ca_certs"] = str(self.broker_ca_file)
        return checks

    def _transport_options(self) -> dict[str, object]:
        if not self.broker.startswith("filesystem:"):
            return {"socket_connect_timeout": 5.0, "socket_keepalive": True}
        folder = self.data_folder / "broker"
        options: dict[str, object] = {
            "store_processed": False,
            "polling_interval": FILE_POLLING_SECONDS,
        }
        # One folder for both directions: what the service puts out is what the worker takes in.
        for option, name in (
            ("data_folder_in", "messages"),
            ("data_folder_out", "messages"),
            ("processed_folder", "processed"),
            ("control_folder", "control"),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            options[option] = str(folder / name)
        return options
