"""What the page about deployment names is there."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import yaml

from session_api.app import create_app
from tests.deploy.chart import CHART
from tests.session_api.clients import database
from tests.session_api.serving import served
from tests.support import REPOSITORY
from unified_storage import open_storage

PAGE = REPOSITORY / "docs" / "how-to" / "deploy-the-session-service.md"


def test_every_figure_of_an_alert_is_one_of_the_service():
    (rules,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    groups = yaml.safe_load(rules)["groups"]
    wanted = {
        name for group in groups for rule in group["rules"] for name in re.findall(r"session_api_\w+", rule["expr"])
    }
    with served(create_app(database(open_storage("memory://")))) as url:
        told = httpx.get(f"{url}/metrics").text  # /health was asked for before
    assert wanted <= set(re.findall(r"^(session_api_\w+)", told, re.MULTILINE))


def test_every_value_of_the_chart_is_on_the_page():
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    page = PAGE.read_text("utf-8")
    for name in values:
        assert re.search(rf"`{name}[`.]", page), name
    for name in values["config"]:
        assert f"`config.{name}`" in page


def test_every_file_and_script_on_the_page_is_there():
    for name in re.findall(r"(?:scripts|deploy|tests)/[\w./-]*\w", PAGE.read_text("utf-8")):
        assert Path(REPOSITORY / name).exists(), name
