"""The Compose file: a service that waits for its database, and is told it as the service reads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from sqlalchemy.engine import make_url

from session_api import settings
from session_api.databases import CLOSING
from session_api.serving import DRAINING
from session_api.settings import settings_from
from tests.support import REPOSITORY

FILE = REPOSITORY / "docker-compose.session.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<sign>[-?])(?P<rest>[^}]*))?\}")
PASSWORD = "with / and @ and 'quotes'"


class NotSet(Exception):
    """A variable that has to be set."""


def configured(environment: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in, as ``docker compose config`` shows it."""

    def value(found: re.Match[str]) -> str:
        told = environment.get(found["name"])
        if not told and found["sign"] == "?":
            raise NotSet(found["name"])
        return told or found["rest"] or ""

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(item) for key, item in node.items()}
        if isinstance(node, list):
            return [filled(item) for item in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    whole: dict[str, Any] = filled(yaml.safe_load(FILE.read_text("utf-8")))
    return whole


@pytest.fixture
def services() -> dict[str, Any]:
    whole: dict[str, Any] = configured({"POSTGRES_PASSWORD": PASSWORD})["services"]
    return whole


def test_the_service_waits_for_a_database_that_is_healthy(services: dict[str, Any]):
    assert services["service"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    check = services["postgres"]["healthcheck"]
    assert check["test"][:2] == ["CMD", "pg_isready"]
    assert "--host=127.0.0.1" in check["test"]  # the server that sets the database up answers by its socket alone


def test_the_service_is_told_the_database_that_is_made(services: dict[str, Any]):
    told, made = services["service"]["environment"], services["postgres"]["environment"]
    url = make_url(settings_from(told).urls["default"])
    assert (url.host, url.username, url.database) == ("postgres", made["POSTGRES_USER"], made["POSTGRES_DB"])
    assert url.password is None
    assert told["PGPASSWORD"] == made["POSTGRES_PASSWORD"] == PASSWORD
    assert settings_from(told).authenticate is None
    assert services["postgres"]["healthcheck"]["test"][-2:] == ["--username=sessions", "--dbname=sessions"]


def test_it_is_as_the_specification_says():
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text("utf-8"))
    validator = jsonschema_rs.validator_for(schema)
    told = configured({"POSTGRES_PASSWORD": "p"})
    assert [error.message for error in validator.iter_errors(told)] == []
    told["services"]["service"]["depend_on"] = ["postgres"]
    assert not validator.is_valid(told)


def test_a_key_is_passed_on():
    told = configured({"POSTGRES_PASSWORD": "p", "OS_SECURITY_KEY": "k"})["services"]["service"]["environment"]
    assert settings_from(told).authenticate is not None


def test_the_service_knows_every_setting_that_it_is_told(services: dict[str, Any]):
    known = {value for name, value in vars(settings).items() if name.isupper() and isinstance(value, str)}
    assert set(services["service"]["environment"]) <= known | {"SESSION_HOST", "PGPASSWORD"}


def test_there_is_no_password_that_everybody_knows():
    with pytest.raises(NotSet, match="POSTGRES_PASSWORD"):
        configured({})
    written = [found["rest"] or "" for found in _VARIABLE.finditer(FILE.read_text("utf-8")) if found["sign"] == "-"]
    assert set(written) == {"", "8080"}


def test_nobody_else_reaches_it_and_the_database_not_even_this_machine(services: dict[str, Any]):
    assert services["service"]["ports"] == ["127.0.0.1:8080:8080"]
    other = configured({"POSTGRES_PASSWORD": "p", "AGNO_SERVICE_PORT": "9000"})["services"]["service"]
    assert other["ports"] == ["127.0.0.1:9000:8080"]
    assert "AGNO_SERVICE_PORT" not in other["environment"]  # inside it stays 8080
    assert "ports" not in services["postgres"]


def test_the_service_is_nobody_and_has_time_to_finish(services: dict[str, Any]):
    service = services["service"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert int(service["stop_grace_period"].removesuffix("s")) > DRAINING + CLOSING


def test_what_is_stored_outlives_the_containers(services: dict[str, Any]):
    volume, _, _ = services["postgres"]["volumes"][0].partition(":")
    assert volume in configured({"POSTGRES_PASSWORD": "p"})["volumes"]


def _has_compose() -> bool:
    docker = shutil.which("docker")
    return docker is not None and not subprocess.run([docker, "compose", "version"], capture_output=True).returncode


@pytest.mark.skipif(not _has_compose(), reason="no docker compose is installed")
def test_docker_compose_takes_the_file():
    told = os.environ | {"POSTGRES_PASSWORD": PASSWORD}
    command = ["docker", "compose", "--file", str(FILE), "config", "--quiet"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
