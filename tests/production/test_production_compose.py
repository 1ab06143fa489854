"""What docker-compose.yml says is true of the code: no container engine is needed to see that."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from compose_files import COMPOSE, DOCKER, OURS, ROOT, SERVICES, image_environment, secrets_of

from registry.settings import SECRETS_VARIABLE, Settings
from service.app import _METHODS

KNOWN = {f"RAZOR_{name.upper()}" for name in Settings.model_fields} | {SECRETS_VARIABLE}
#: What boto3 reads besides its table of session variables.
BOTO = {"AWS_ENDPOINT_URL_S3", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"} | {
    name
    for _, names, *_ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values()
    for name in ([names] if isinstance(names, str) else names or [])
}
PROMETHEUS = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text("utf-8"))
EVERY = pytest.mark.parametrize("name", SERVICES)
MINE = pytest.mark.parametrize("name", OURS)
LONG_RUNNING = pytest.mark.parametrize("name", [name for name in SERVICES if name != "prepare"])
NETWORK_PORTS = {"postgres": 5432, "redis": 6379, "objects": 8333, "prometheus": 9090}


def unknown_variables(names: set[str]) -> set[str]:
    """Those of ours and of boto3's that nothing reads."""
    ours = {name for name in names if name.startswith("RAZOR_")} - KNOWN
    return ours | {name for name in names if name.startswith("AWS_")} - BOTO


def test_a_misspelt_variable_is_noticed() -> None:
    assert unknown_variables({"RAZOR_PORT", "AWS_DEFAULT_REGION", "PATH"}) == set()
    assert unknown_variables({"RAZOR_PROT", "AWS_REGIO"}) == {"RAZOR_PROT", "AWS_REGIO"}


@MINE
def test_every_variable_is_a_setting_and_every_setting_is_valid(
    name: str, made_secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = SERVICES[name]
    variables = image_environment(OURS[name]) | service["environment"]
    assert unknown_variables(set(variables)) == set()
    assert all(isinstance(value, str) for value in variables.values())
    for target, source in secrets_of(service).items():
        shutil.copy(made_secrets / source, tmp_path / target)
    for variable in KNOWN:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        if variable.startswith("RAZOR_"):
            monkeypatch.setenv(variable, value)
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path))
    settings = Settings()
    assert settings.database.startswith("postgresql+psycopg://razor_")
    assert settings.broker.startswith("redis://razor:")
    assert settings.blobs_url == "s3://razor/blobs"
    password = settings.database.partition(":")[2].partition("@")[0].rpartition(":")[2]
    assert len(password) == 48
    assert password not in repr(settings)


@MINE
def test_secrets_of_ours_are_settings_or_named_by_a_variable(name: str) -> None:
    service = SERVICES[name]
    folder = service["environment"][SECRETS_VARIABLE]
    paths = set(service["environment"].values())
    for target in secrets_of(service):
        assert target.upper() in KNOWN or f"{folder}/{target}" in paths


def test_the_tables_owner_is_known_to_the_preparation_alone() -> None:
    holders = {
        name for name in SERVICES if "owner_database_url" in secrets_of(SERVICES[name]).values()
    }
    assert holders == {"prepare"}
    for name in ("service", "worker", "worker-gpu"):
        assert secrets_of(SERVICES[name])["razor_database_url"] == "database_url"


def test_secrets_are_made_declared_and_used(made_secrets: Path) -> None:
    declared = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert declared == {name: f"docker/secrets/{name}" for name in declared}
    assert {path.name for path in made_secrets.iterdir()} == set(declared)
    used = {source for service in SERVICES.values() for source in secrets_of(service).values()}
    assert used == set(declared)
    assert stat.S_IMODE(made_secrets.stat().st_mode) == 0o700
    again = subprocess.run([DOCKER / "make-secrets.sh", made_secrets], capture_output=True)
    assert again.returncode == 1, "passwords that are in use are not lost"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/docker/secrets/" in ignored


def test_two_installations_have_no_secret_in_common(made_secrets: Path, tmp_path: Path) -> None:
    other = tmp_path / "secrets"
    subprocess.run([DOCKER / "make-secrets.sh", other], check=True, capture_output=True)
    words = re.compile(r"[0-9a-f]{48}")
    first, second = (
        {word for path in folder.iterdir() for word in words.findall(path.read_text())}
        for folder in (made_secrets, other)
    )
    assert len(first) == len(second) == 7
    assert not first & second


@MINE
def test_commands_are_ours(name: str) -> None:
    command = SERVICES[name]["command"]
    assert command[:3] == ["python", "-P", "-m"]
    module = command[3]
    if len(command) == 4:
        assert importlib.util.find_spec(f"{module}.__main__") is not None
        return
    done = subprocess.run(
        [sys.executable, *command[1:5], "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    options = [word for word in command[5:] if word.startswith("--")]
    assert options
    assert all(option in done.stdout for option in options)


def urls_of(service: dict[str, Any]) -> list[str]:
    return re.findall(r"http://[^'\" ]+", " ".join(service["healthcheck"]["test"]))


def test_health_checks_ask_what_is_served() -> None:
    (url,) = urls_of(SERVICES["service"])
    assert urlsplit(url).path in _METHODS
    assert str(urlsplit(url).port) == SERVICES["service"]["environment"]["RAZOR_PORT"]
    for name in ("worker", "worker-gpu"):
        (url,) = urls_of(SERVICES[name])
        assert urlsplit(url).path == "/metrics"
        port = SERVICES[name]["environment"]["RAZOR_WORKER_METRICS_PORT"]
        assert str(urlsplit(url).port) == port


@LONG_RUNNING
def test_every_process_is_watched(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert {"test", "interval", "timeout", "retries"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"
    if "-c" in check["test"]:
        ast.parse(check["test"][check["test"].index("-c") + 1])


def test_prometheus_scrapes_where_figures_are() -> None:
    service, worker = PROMETHEUS["scrape_configs"]
    (target,) = service["static_configs"][0]["targets"]
    assert target == f"service:{SERVICES['service']['environment']['RAZOR_PORT']}"
    assert "GET" in _METHODS["/metrics"]
    (found,) = worker["dns_sd_configs"]
    workers = {name for name in SERVICES if name.startswith("worker")}
    assert set(found["names"]) == workers
    for name in workers:
        assert str(found["port"]) == SERVICES[name]["environment"]["RAZOR_WORKER_METRICS_PORT"]
        assert SERVICES[name]["environment"]["RAZOR_HOST"] == "0.0.0.0"
    for path in PROMETHEUS["rule_files"]:
        assert (DOCKER / "prometheus" / Path(path).name).is_file()


def test_ports_are_published_to_this_machine_alone() -> None:
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert published.pop("service") == ["127.0.0.1:8731:8731"]
    assert SERVICES["service"]["environment"]["RAZOR_PORT"] == "8731"
    assert published.pop("grafana") == ["127.0.0.1:3000:3000"]
    assert not any(published.values())


def test_addresses_lead_to_services_of_this_file(made_secrets: Path) -> None:
    texts = [path.read_text() for path in made_secrets.iterdir()]
    texts += [
        value for name in OURS for value in SERVICES[name]["environment"].values() if "//" in value
    ]
    texts += [
        path.read_text()
        for path in (DOCKER / "grafana").rglob("*.yml")
        if "url:" in path.read_text()
    ]
    found = {
        (host, int(port))
        for text in texts
        for host, port in re.findall(r"//(?:[^@/\s]*@)?([a-z]+):(\d+)", text)
    }
    assert found == set(NETWORK_PORTS.items())
    assert set(NETWORK_PORTS) <= set(SERVICES)


@EVERY
def test_what_a_container_may_do_and_take_is_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert str(service["user"]).partition(":")[0] not in ("", "0", "root")
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert not service.get("privileged")
    assert "network_mode" not in service


@EVERY
def test_images_are_pinned_and_name_no_registry(name: str) -> None:
    image = SERVICES[name]["image"]
    repository, _, tag = image.partition(":")
    assert re.fullmatch(r"v?\d+\.\d[\w.-]*", tag), "a version, never latest"
    assert "." not in repository.partition("/")[0]


@EVERY
def test_folders_and_volumes_are_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert mode == ["ro"], "nothing of the repository is written to"
            assert source == "./models" or (ROOT / source).is_dir()
        else:
            assert source in COMPOSE["volumes"]


def test_every_volume_is_used() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
    }
    assert set(COMPOSE["volumes"]) <= used


def test_what_is_waited_for_exists_and_can_be_seen_to_be_ready() -> None:
    for service in SERVICES.values():
        for name, wish in service.get("depends_on", {}).items():
            if wish["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert wish["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"].startswith("on-failure")


def test_profiles_choose_the_worker_and_nothing_else() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles.pop("worker") == ["cpu"]
    assert profiles.pop("worker-gpu") == ["gpu"]
    assert not any(profiles.values())
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["worker-gpu"]["command"] == SERVICES["worker"]["command"]


def test_files_of_grafana_are_mounted_where_it_looks() -> None:
    mounts = {
        target: source
        for source, target, *_ in (volume.split(":") for volume in SERVICES["grafana"]["volumes"])
    }
    provider = yaml.safe_load(
        (DOCKER / "grafana/provisioning/dashboards/razor.yml").read_text("utf-8")
    )["providers"][0]
    assert mounts[provider["options"]["path"]] == "./docker/grafana/dashboards"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / mounts[str(home.parent)] / home.name).is_file()


def test_scripts_can_be_run() -> None:
    for script in (DOCKER / "make-secrets.sh", DOCKER / "postgres/10-roles.sh"):
        assert os.access(script, os.X_OK)
        subprocess.run(["sh", "-n", script], check=True)
