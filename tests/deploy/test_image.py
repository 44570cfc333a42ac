"""The Dockerfile: what it says, and what comes of it, acted out on this machine where no docker is.

Acting out: the instructions of its first stage run in a folder with what .dockerignore lets through, on this machine's
Python, and take what is to be installed from uv's cache; then the entry point of the second stage is started.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.session_api.processes import free_port, wait_for
from tests.support import REPOSITORY

UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
HADOLINT = os.environ.get("HADOLINT") or shutil.which("hadolint")
_OUR_PATHS = ("/opt/service", "/source")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its lines joined."""

    word: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, each beginning with its FROM."""
    lines = (REPOSITORY / "Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.startswith("#")).replace("\\\n", "")
    found: list[list[Instruction]] = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(word, rest.strip()))
    return found


def all_of(stage: list[Instruction], word: str) -> list[str]:
    return [one.rest for one in stage if one.word == word]


def ignored() -> list[str]:
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docker would be given."""
    folder = tmp_path_factory.mktemp("context")
    for line in ignored():
        if not line.startswith("!"):
            continue
        source, target = REPOSITORY / line[1:], folder / line[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def test_the_context_is_what_is_named_and_all_of_it_is_copied():
    assert ignored()[0] == "*"  # nothing but what follows: no .git, no .env, no databases
    named = {line.removeprefix("!") for line in ignored() if line.startswith("!")}
    copied = [rest for stage in stages() for rest in all_of(stage, "COPY") if not rest.startswith("--from")]
    sources = {source for rest in copied for source in rest.split()[:-1]}
    assert sources == named
    assert {line for line in ignored() if not line.startswith("!")} == {"*", "**/__pycache__"}


def test_every_package_is_in_the_image():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages <= {rest.split()[0] for rest in all_of(stages()[0], "COPY")}


def test_versions_are_locked():
    build = " ".join(all_of(stages()[0], "RUN"))
    assert re.search(r"pip install --no-cache-dir uv==[\d.]+( |$)", build)
    for install in re.findall(r"uv pip install [^&]*", build):
        assert "constraints requirements/lock.txt" in install
    assert "--only-binary :all:" in build  # a slim image has no compiler, and is not to get one


def test_the_image_runs_the_service_as_nobody_on_8080():
    final = stages()[-1]
    assert all_of(final, "USER") == ["10001:10001"]
    assert [one.word for one in final].index("USER") > max(
        at for at, one in enumerate(final) if one.word in ("RUN", "COPY")
    )
    assert all_of(final, "EXPOSE") == ["8080"]
    assert json.loads(all_of(final, "ENTRYPOINT")[0]) == ["python", "-m", "session_api"]


def test_the_image_has_no_tools_to_build_with():
    """What is installed comes from the first stage; the second one installs nothing, and loses its pip."""
    build, final = stages()
    assert all("-slim" in one.rest for stage in (build, final) for one in stage if one.word == "FROM")
    assert build[0].rest.partition(" AS ")[0] == final[0].rest  # else the environment's Python is not there
    run = " ".join(all_of(final, "RUN"))
    assert "pip uninstall --yes pip" in run
    assert not re.search(r"install |apt|gcc|curl|wget", run.replace("uninstall", ""))
    assert all_of(final, "COPY") == ["--from=build /opt/service /opt/service"]


def test_no_secret_stands_in_it():
    names = {name for stage in stages() for word in ("ENV", "ARG") for name in all_of(stage, word)}
    assert not [name for name in names if re.search(r"DSN|KEY|PASS|TOKEN|URL", name)]


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint is installed")
def test_hadolint_finds_nothing():
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# acted out


@dataclass(frozen=True)
class Image:
    """What would be in the image: the folder that stands for its root, and the environment of its processes."""

    root: Path
    environment: dict[str, str]

    def here(self, text: str) -> str:
        """*text* with the paths of the image as those of this machine."""
        for path in _OUR_PATHS:
            text = text.replace(path, f"{self.root}{path}")
        return text


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, context: Path) -> Image:
    build, final = stages()
    image = Image(
        tmp_path_factory.mktemp("root"), {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root")}
    )
    told = image.environment | _settings(image, build) | {"UV_OFFLINE": "1"}
    told |= {"UV_NO_CACHE": "0", "PATH": f"{Path(UV or '/').parent}{os.pathsep}{told['PATH']}"}
    source = Path(image.here("/source"))
    for one in build:
        if one.word == "COPY":
            _copied(one.rest, context, source)
        elif one.word == "RUN" and not one.rest.startswith("pip install --no-cache-dir uv"):
            # elsewhere it would be this very environment
            assert one.rest.count("pip install --python /opt/service ") == one.rest.count("pip install ")
            done = subprocess.run(
                ["sh", "-c", image.here(one.rest)], cwd=source, env=told, capture_output=True, text=True
            )
            if "not found in the cache" in done.stderr or "network was disabled" in done.stderr:
                pytest.skip(f"uv's cache lacks what the image installs: {done.stderr.strip().splitlines()[-1]}")
            assert done.returncode == 0, done.stderr
    return Image(image.root, image.environment | _settings(image, final))


def _settings(image: Image, stage: list[Instruction]) -> dict[str, str]:
    """What ENV says, with the paths of this machine."""
    pairs = (pair.split("=", 1) for rest in all_of(stage, "ENV") for pair in rest.split())
    return {name: image.here(value).replace("$PATH", image.environment["PATH"]) for name, value in pairs}


def _copied(rest: str, context: Path, source: Path) -> None:
    *names, target = rest.split()
    for name in names:
        to = source / target / (Path(name).name if target.endswith("/") else "")
        to.parent.mkdir(parents=True, exist_ok=True)
        if (context / name).is_dir():
            shutil.copytree(context / name, to)
        else:
            shutil.copy(context / name, to)


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_what_is_built_serves_and_says_that_it_is_well(image: Image, tmp_path: Path):
    final, port = stages()[-1], free_port()
    told = image.environment | {
        "AGNO_PG_DSN": f"sqlite:///{tmp_path}/s.db",
        "AGNO_SERVICE_PORT": str(port),
        "SESSION_HOST": "127.0.0.1",
    }
    (health,) = all_of(final, "HEALTHCHECK")
    check = _commands(health.partition("CMD ")[2])

    def is_healthy() -> bool:
        return subprocess.run(check, env=told, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert not is_healthy()
    log = tmp_path / "service.log"
    with log.open("wb") as written:
        entry = _commands(all_of(final, "ENTRYPOINT")[0])
        process = subprocess.Popen(entry, env=told, cwd=image.here("/opt/service"), stderr=written)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process, log)
        assert is_healthy()
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_what_is_built_has_the_drivers_and_none_of_our_tools(image: Image):
    site = next(Path(image.here("/opt/service")).glob("lib/python*/site-packages"))
    installed = {found.name.partition("-")[0].lower() for found in site.glob("*.dist-info")}
    assert {"asyncpg", "asyncmy", "redis", "fastapi", "uvicorn", "unified_storage"} <= installed
    assert not installed & {"pytest", "ruff", "mypy", "hatchling", "uv", "pip", "schemathesis", "coverage"}
    locked = (REPOSITORY / "requirements" / "lock.txt").read_text("utf-8")
    for found in site.glob("*.dist-info"):
        name, _, version = found.name.removesuffix(".dist-info").partition("-")
        is_locked = re.search(rf"(?im)^{re.sub('[-_.]', '[-_.]', name)}=={re.escape(version)} ", locked)
        assert is_locked or name == "unified_storage", found.name


def _commands(text: str) -> list[str]:
    parsed: list[str] = json.loads(text)
    return parsed
