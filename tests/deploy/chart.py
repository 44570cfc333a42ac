"""The chart, rendered: by helm where it is installed, and by the tests' own means everywhere."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.deploy.go_templates import Templates
from tests.support import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "agno-session"
HELM = os.environ.get("HELM") or shutil.which("helm")
"""The program: one that the environment names, else one on the path."""

Manifest = dict[str, Any]


class RefusedValues(Exception):
    """What the chart's schema says of values."""


@dataclass(frozen=True)
class Release:
    """Manifests by kind and name, and the text that they were read from."""

    manifests: list[Manifest]
    text: str

    def of(self, kind: str, name: str | None = None) -> list[Manifest]:
        """Those of a kind, with a name where one is given."""
        return [
            found
            for found in self.manifests
            if found["kind"] == kind and (name is None or found["metadata"]["name"] == name)
        ]

    def only(self, kind: str, name: str | None = None) -> Manifest:
        (found,) = self.of(kind, name)
        return found


def values_in(name: str) -> dict[str, Any]:
    """One of the chart's own sets of values, as ``ci/NAME-values.yaml`` has it."""
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text("utf-8"))
    return found


def rendered(values: Mapping[str, Any], release: str = "test") -> Release:
    """What the chart makes of *values*, as helm would.

    Raises:
        RefusedValues: they are not as values.schema.json says.
        tests.deploy.go_templates.Failed: the chart refuses them.
    """
    whole = merged(yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), values)
    _check(whole)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    dot = {
        "Values": whole,
        "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        "Release": {"Name": release, "Namespace": "default", "Service": "Helm"},
    }
    files = {path.name: path.read_text("utf-8") for path in (CHART / "templates").iterdir()}
    templates = Templates(files)
    texts = {name: templates.render(name, dot) for name in sorted(files)}
    return release_of("\n---\n".join(text for name, text in texts.items() if name.endswith(".yaml")))


def rendered_by_helm(values: Mapping[str, Any], folder: Path, release: str = "test") -> Release:
    """The same by helm itself."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)), "utf-8")
    return release_of(helm("template", release, str(CHART), "--values", str(file)).stdout)


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, check=check)


def release_of(text: str) -> Release:
    return Release([found for found in yaml.safe_load_all(text) if found], text)


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """*given* over *defaults*, mapping by mapping."""
    whole = copy.deepcopy(dict(defaults))
    for key, value in given.items():
        is_deeper = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if is_deeper else value
    return whole


def _check(values: Mapping[str, Any]) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    try:
        jsonschema_rs.validate(schema, values)
    except jsonschema_rs.ValidationError as error:
        raise RefusedValues(str(error)) from error
