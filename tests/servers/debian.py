"""Debian packages, unpacked into a folder of ours and installed nowhere."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.locks import locked


class NotPossible(Exception):
    """Packages cannot be had here; the text says why."""


def not_possible() -> str:
    """Why packages cannot be unpacked on this machine; empty when they can."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return "no apt-get here to unpack Debian packages with"
    return "" if os.geteuid() == 0 else "only root's apt-get can download Debian packages"


def unpacked(packages: Sequence[str], folder: Path) -> Path:
    """The root of a file tree with *packages*, and with what they need and this system lacks.

    Nothing outside *folder* changes: apt-get keeps its lists and its files below it too. A second call finds it done.

    Raises:
        NotPossible: with the last words of the program that failed.
    """
    root = folder / "root"
    with locked(folder / "lock"):
        if not root.exists():
            _unpack(packages, folder, root)
    return root


def _unpack(packages: Sequence[str], folder: Path, root: Path) -> None:
    if reason := not_possible():
        raise NotPossible(reason)
    downloads = folder / "downloads"
    for needed in ("lists/partial", "cache/archives/partial", "downloads"):
        (folder / needed).mkdir(parents=True, exist_ok=True)
    _run([*_apt(folder), "update"], downloads)
    _run([*_apt(folder), "download", *_with_dependencies(packages, folder)], downloads)
    fresh = folder / "unpacking"
    shutil.rmtree(fresh, ignore_errors=True)
    for file in sorted(downloads.glob("*.deb")):
        _run(["dpkg", "-x", str(file), str(fresh)], folder)
    fresh.rename(root)  # only a whole tree bears the name
    for done in ("lists", "cache", "downloads"):
        shutil.rmtree(folder / done)


def _with_dependencies(packages: Sequence[str], folder: Path) -> list[str]:
    plan = _run([*_apt(folder), "install", "--simulate", "--reinstall", "--no-install-recommends", *packages], folder)
    return sorted(set(re.findall(r"^Inst (\S+)", plan, re.MULTILINE)))


def _apt(folder: Path) -> list[str]:
    settings = {
        "Dir::State::Lists": str(folder / "lists"),
        "Dir::Cache": str(folder / "cache"),
        "APT::Sandbox::User": "root",  # its own user may not write to our folder
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
    }
    return ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in settings.items())]


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NotPossible(f"{command[0]} failed: {' '.join(last) or done.returncode}")
    return done.stdout
