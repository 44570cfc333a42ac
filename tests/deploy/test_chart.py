"""The Helm chart: what it renders for the least that has to be said, and for everything that can be."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from session_api.health import PATIENCE
from session_api.serving import DRAINING
from session_api.settings import settings_from
from tests.deploy.chart import (
    CHART,
    HELM,
    Manifest,
    RefusedValues,
    Release,
    helm,
    rendered,
    rendered_by_helm,
    values_in,
)
from tests.deploy.go_templates import Failed, NotUnderstood, Templates
from tests.support import REPOSITORY

SETS = ("default", "existing-secret", "full")
NAME = "test-agno-session"
URL = "postgresql://sessions:hunter2@db:5432/sessions"


def container_of(manifest: Manifest) -> Manifest:
    (found,) = manifest["spec"]["template"]["spec"]["containers"]
    container: Manifest = found
    return container


def env_of(manifest: Manifest) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container_of(manifest)["env"]}


def secret_key(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def pods_of(release: Release) -> list[Manifest]:
    """What makes pods."""
    return release.of("Deployment") + release.of("Job")


# what every set of values gives


@pytest.mark.parametrize("name", SETS)
def test_every_object_is_whole_and_of_the_release(name: str):
    release = rendered(values_in(name))
    found = {(one["kind"], one["metadata"]["name"]) for one in release.manifests}
    assert {("Deployment", NAME), ("Service", NAME)} <= found
    assert len(found) == len(release.manifests)
    for manifest in release.manifests:
        assert manifest["apiVersion"] in ("apps/v1", "batch/v1", "v1")
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "test"


@pytest.mark.parametrize("name", SETS)
def test_a_service_finds_the_pods_of_its_deployment_and_no_others(name: str):
    """The pod of a migration answers no requests."""
    release = rendered(values_in(name))
    selector = release.only("Service")["spec"]["selector"].items()
    deployment = release.only("Deployment")
    assert selector <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() == selector
    for job in release.of("Job"):
        assert not selector <= job["spec"]["template"]["metadata"]["labels"].items()
    port = release.only("Service")["spec"]["ports"][0]
    assert port["targetPort"] in [one["name"] for one in container_of(deployment)["ports"]]


@pytest.mark.parametrize("name", SETS)
def test_a_pod_is_nobody_and_changes_nothing_on_its_disk(name: str):
    for manifest in pods_of(rendered(values_in(name))):
        pod = manifest["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert container_of(manifest)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container_of(manifest)["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", SETS)
def test_probes_ask_what_they_mean_and_wait_long_enough(name: str):
    """A database that is gone takes a pod out of the Service, and is no reason to start it again."""
    container = container_of(rendered(values_in(name)).only("Deployment"))
    live, ready = container["livenessProbe"], container["readinessProbe"]
    assert (live["httpGet"], ready["httpGet"]) == (
        {"path": "/healthz", "port": "http"},
        {"path": "/readyz", "port": "http"},
    )
    assert ready["timeoutSeconds"] > PATIENCE
    assert live["periodSeconds"] * live["failureThreshold"] >= 30


@pytest.mark.parametrize("name", SETS)
def test_a_pod_has_time_to_finish(name: str):
    pod = rendered(values_in(name)).only("Deployment")["spec"]["template"]["spec"]
    leaving = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert leaving[0] == "sleep"
    assert pod["terminationGracePeriodSeconds"] > int(leaving[1]) + DRAINING + 4


@pytest.mark.parametrize("name", SETS)
def test_no_other_service_of_the_namespace_sets_the_port(name: str):
    """Kubernetes would set AGNO_SERVICE_PORT for a Service that is called agno."""
    for manifest in pods_of(rendered(values_in(name))):
        assert manifest["spec"]["template"]["spec"]["enableServiceLinks"] is False
        assert env_of(manifest)["AGNO_SERVICE_PORT"] == "8080"
        assert [one["containerPort"] for one in container_of(manifest).get("ports", [])] in ([8080], [])


# the least that has to be said


def test_one_url_is_enough():
    release = rendered({"config": {"dsn": URL}})
    deployment = release.only("Deployment")
    assert deployment["spec"]["replicas"] == 2
    assert container_of(deployment)["image"] == "agno-session:0.1.0"
    assert env_of(deployment) == {"AGNO_SERVICE_PORT": "8080", "AGNO_PG_DSN": secret_key(NAME, "dsn")}
    assert release.only("Service")["spec"]["type"] == "ClusterIP"
    assert release.only("Secret", NAME)["stringData"] == {"dsn": URL}


def test_the_service_takes_what_the_pod_is_told():
    """The names of the settings, and the values of the Secret, as the service reads them."""
    for name in ("default", "full"):
        release = rendered(values_in(name))
        for manifest in pods_of(release):
            settings = settings_from(dict(resolved(manifest, release)))
            assert settings.port == 8080
            assert dict(settings.urls) in (
                {"default": values_in("default")["config"]["dsn"]},
                values_in("full")["config"]["dsnMap"],
            )
    assert settings.default_id == "main"


def resolved(manifest: Manifest, release: Release) -> Iterator[tuple[str, str]]:
    """The environment of a container, with what Secrets of the release hold."""
    for name, value in env_of(manifest).items():
        if isinstance(value, str):
            yield name, value
        elif value["secretKeyRef"]["name"].startswith(NAME):
            yield (
                name,
                release.only("Secret", value["secretKeyRef"]["name"])["stringData"][value["secretKeyRef"]["key"]],
            )


def test_without_a_database_nothing_is_rendered():
    for values in ({}, {"config": {"dsn": "", "defaultDbId": "main"}}):
        with pytest.raises(Failed, match="say where the sessions are"):
            rendered(values)


# secrets


@pytest.mark.parametrize("name", SETS)
def test_no_url_stands_in_an_environment_or_anywhere_but_in_secrets(name: str):
    release = rendered(values_in(name))
    others = [one for one in release.manifests if one["kind"] != "Secret"]
    assert not [word for word in ("secret@", "s%22e", "://sessions:") if word in json.dumps(others)]
    for manifest in pods_of(release):
        told = env_of(manifest)
        assert {"AGNO_PG_DSN", "AGNO_SESSION_DSN_MAP"} & set(told)
        for variable in {"AGNO_PG_DSN", "AGNO_SESSION_DSN_MAP", "OS_SECURITY_KEY"} & set(told):
            assert "secretKeyRef" in told[variable]


@pytest.mark.parametrize("also", [{}, {"dsn": URL}, {"dsnMap": {"a": URL, "b": URL}}], ids=("alone", "dsn", "map"))
def test_an_existing_secret_is_referred_to_and_nothing_else_is_made_of_urls(also: dict[str, Any]):
    release = rendered({"config": {"existingSecret": "mine", **also}})
    assert release.of("Secret") == []
    assert "hunter2" not in release.text
    for manifest in pods_of(release):
        assert env_of(manifest)["AGNO_PG_DSN"] == secret_key("mine", "dsn")
        assert "AGNO_SESSION_DSN_MAP" not in env_of(manifest)


def test_an_existing_secret_may_hold_several_databases():
    config = {"existingSecret": "mine", "existingSecretKeys": {"dsnMap": "map"}, "defaultDbId": "main"}
    for manifest in pods_of(rendered({"config": config})):
        told = env_of(manifest)
        assert told["AGNO_SESSION_DSN_MAP"] == secret_key("mine", "map")
        assert told["AGNO_DEFAULT_DB_ID"] == "main"
        assert "AGNO_PG_DSN" not in told
    with pytest.raises(Failed, match="existingSecretKeys"):
        rendered({"config": {"existingSecret": "mine", "existingSecretKeys": {"dsn": ""}}})


def test_other_urls_make_other_pods_and_the_mark_tells_too_little_to_guess_them():
    marks = []
    for url in (URL, URL, f"{URL}2"):
        pod = rendered({"config": {"dsn": url}}).only("Deployment")["spec"]["template"]["metadata"]
        marks.append(pod["annotations"]["checksum/databases"])
    assert marks[0] == marks[1] != marks[2]
    assert {len(mark) for mark in marks} == {8}


# several databases


def test_of_several_databases_the_default_has_to_be_named():
    """Helm sorts the keys of a map, so the first one written is not known."""
    two = {"zeta": "memory://", "alpha": "memory://"}
    with pytest.raises(Failed, match="defaultDbId"):
        rendered({"config": {"dsnMap": two}})
    with pytest.raises(Failed, match="has no beta"):
        rendered({"config": {"dsnMap": two, "defaultDbId": "beta"}})
    release = rendered({"config": {"dsnMap": two, "defaultDbId": "zeta"}})
    assert env_of(release.only("Deployment"))["AGNO_DEFAULT_DB_ID"] == "zeta"
    assert json.loads(release.only("Secret", NAME)["stringData"]["dsn-map"]) == two


def test_one_database_in_the_map_needs_no_default():
    release = rendered({"config": {"dsnMap": {"only": URL}}})
    assert env_of(release.only("Deployment")) == {
        "AGNO_SERVICE_PORT": "8080",
        "AGNO_SESSION_DSN_MAP": secret_key(NAME, "dsn-map"),
    }


# the migration


@pytest.mark.parametrize("name", ["default", "full"])
def test_the_migration_runs_before_installs_and_upgrades_with_a_secret_that_is_there(name: str):
    """The release's own Secret is made, or changed, after the hooks."""
    release = rendered(values_in(name))
    job, secret = release.only("Job"), release.only("Secret", f"{NAME}-migration")
    for one in (job, secret):
        assert one["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert "before-hook-creation" in one["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    weights = [int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in (secret, job)]
    assert weights[0] < weights[1]
    assert container_of(job)["command"] == ["python", "-m", "session_api.prepare"]
    assert container_of(job)["image"] == container_of(release.only("Deployment"))["image"]
    names = {one["secretKeyRef"]["name"] for key, one in env_of(job).items() if key.startswith(("AGNO_PG", "AGNO_SES"))}
    assert names == {f"{NAME}-migration"}
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert "helm.sh/hook" not in release.only("Secret", NAME)["metadata"].get("annotations", {})


def test_without_a_migration_there_is_no_hook():
    release = rendered({"config": {"dsn": URL}, "migration": {"enabled": False}})
    assert release.of("Job") == []
    assert [one["metadata"]["name"] for one in release.of("Secret")] == [NAME]
    assert "helm.sh/hook" not in release.text


# all that can be said


def test_everything_that_can_be_said_is_rendered():
    release = rendered(values_in("full"))
    deployment, job = release.only("Deployment"), release.only("Job")
    assert deployment["spec"]["replicas"] == 3
    for manifest in (deployment, job):
        container = container_of(manifest)
        assert container["image"] == "registry.example/team/agno-session:1.2.3"
        assert container["imagePullPolicy"] == "Always"
        assert manifest["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]
        assert container["resources"] == values_in("full")["resources"]
        assert env_of(manifest)["OS_SECURITY_KEY"] == secret_key("sessions-key", "key")
        assert env_of(manifest)["SESSION_TRUSTED_PROXIES"] == "10.0.0.0/8"
    service = release.only("Service")["spec"]
    assert (service["type"], service["ports"][0]["port"]) == ("LoadBalancer", 8443)
    container = container_of(deployment)
    assert (container["livenessProbe"]["periodSeconds"], container["readinessProbe"]["periodSeconds"]) == (30, 3)
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 60)
    assert rendered({"config": {"dsn": URL}, "replicaCount": 0}).only("Deployment")["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 3},
        {"replicaCount": "3"},
        {"replicaCount": -1},
        {"config": {"DSN": URL}},
        {"config": {"dsnMap": [URL]}},
        {"config": {"dsnMap": {"a": ""}}},
        {"service": {"type": "Ingress"}},
        {"service": {"port": 0}},
        {"image": {"repository": ""}},
        {"migration": {"enabled": "no"}},
        {"env": [{"value": "x"}]},
    ],
    ids=json.dumps,
)
def test_values_that_mean_nothing_are_refused(values: dict[str, Any]):
    config = {"dsn": URL} | values.get("config", {})
    with pytest.raises(RefusedValues):
        rendered(values | {"config": config})


@pytest.mark.parametrize(
    ("release", "name"),
    [("sessions", "sessions-agno-session"), ("agno-session", "agno-session"), ("my-agno-session", "my-agno-session")],
)
def test_names_say_release_and_chart_once(release: str, name: str):
    found = rendered({"config": {"dsn": URL}}, release)
    assert {one["metadata"]["name"] for one in found.manifests} == {name, f"{name}-migration"}


def test_the_longest_name_of_a_release_still_makes_names():
    for manifest in rendered({"config": {"dsn": URL}}, "r" * 53).manifests:
        assert len(manifest["metadata"]["name"]) <= 63
        assert not manifest["metadata"]["name"].endswith("-")


def test_the_chart_has_the_version_of_the_package_and_the_compose_file_too():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    compose = yaml.safe_load((REPOSITORY / "docker-compose.session.yml").read_text("utf-8"))
    assert chart["appVersion"] == version
    assert compose["services"]["service"]["image"] == f"agno-session:{version}"


# helm itself


@pytest.mark.skipif(HELM is None, reason="no helm is installed: rendered by tests/deploy/go_templates.py alone")
@pytest.mark.parametrize("name", SETS)
def test_helm_renders_the_same(name: str, tmp_path: Path):
    ours, by_helm = rendered(values_in(name)), rendered_by_helm(values_in(name), tmp_path)

    def by_name(release: Release) -> dict[tuple[str, str], Manifest]:
        return {(one["kind"], one["metadata"]["name"]): one for one in release.manifests}

    assert by_name(by_helm) == by_name(ours)


@pytest.mark.skipif(HELM is None, reason="no helm is installed")
@pytest.mark.parametrize("name", SETS)
def test_helm_finds_no_fault_with_the_chart(name: str):
    done = helm("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{name}-values.yaml"), check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(HELM is None, reason="no helm is installed")
def test_helm_refuses_what_is_refused_here():
    for setting, told in (
        ("config.dsn=", "say where the sessions are"),
        ("config.DSN=x", "DSN"),
        ("replicaCount=none", "replicaCount"),
    ):
        done = helm("template", "test", str(CHART), "--set", setting, check=False)
        assert done.returncode != 0
        assert told in done.stderr


@pytest.mark.parametrize("name", SETS)
def test_kubernetes_takes_every_object(name: str):
    """By its own schemas, strictly: a field that it does not know is a fault."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="Kubernetes' schemas are not installed")
    for manifest in rendered(values_in(name)).manifests:
        for version in ("1.30", "1.34"):
            kubernetes_validate.validate(manifest, version, strict=True)


# what stands in for it


def test_a_template_that_the_tests_do_not_understand_is_refused():
    for text in ("{{ nosuch .x }}", "{{ range .x }}{{ end }}", "{{ if .x }}", "{{ end }} ", "{{ .x + 1 }}", "{{ . }}"):
        with pytest.raises(NotUnderstood):
            Templates({"a": text}).render("a", {"x": 1})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a {{- .x -}} b", "a1b"),
        ("a {{ .x }} b", "a 1 b"),
        ("{{/* why */}}a", "a"),
        ("{{ if .no }}1{{ else if .x }}2{{ else }}3{{ end }}", "2"),
        ("{{ if .no }}1{{ else if .no }}2{{ else }}3{{ end }}{{ .x }}", "31"),
        ("{{ with .map }}{{ .y }}{{ $.x }}{{ end }}", "21"),
        ("{{ with .no }}{{ .y }}{{ else }}{{ .x }}{{ end }}", "1"),
        ('{{ $v := printf "%s-%s" "a" (default "b" .no) }}{{ $v | quote }}', '"a-b"'),
        ('{{ define "d" }}{{ .y | toJson | quote }}{{ end }}{{ include "d" (dict "y" .map) }}', '"{\\"y\\":2}"'),
        ('{{ "a" | nindent 2 }}', "\n  a"),
        ("{{ and .x .no }}|{{ or .no .x }}|{{ not .x }}", "|1|false"),
        ("{{ .map | toYaml }}", "y: 2"),
    ],
)
def test_templates_mean_what_they_mean_to_helm(text: str, shown: str):
    assert Templates({"a": text}).render("a", {"x": 1, "no": "", "map": {"y": 2}}) == shown
