"""A pytest plugin for runs of an hour: what has passed is not run again until the code changes.

`.stress/passed.txt` holds the fingerprint of the code, then one passed test a line with its seconds;
`.stress/report.md` is written anew after every test, so that a run that was killed has its report too.
"""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.support import REPOSITORY

FOLDER = REPOSITORY / ".stress"


def fingerprint(repository: Path) -> str:
    """A digest over every file that can change an outcome: code, settings and locks, committed or not."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py", "*.toml", "*.txt"]
    names = subprocess.run(listed, cwd=repository, check=True, capture_output=True, text=True).stdout.split("\0")
    digest = hashlib.sha256()
    for name in sorted({name for name in names if name and (repository / name).is_file()}):
        digest.update(f"{name}\0".encode() + hashlib.sha256((repository / name).read_bytes()).digest())
    return digest.hexdigest()


class StressMemory:
    """Leaves out what has passed with this very code, and remembers what passes now."""

    def __init__(self, folder: Path, code: str) -> None:
        self._passed_file = folder / "passed.txt"
        self._report_file = folder / "report.md"
        self._code = code
        self._rows: dict[str, tuple[float, str]] = {}
        self._remembered = self._read()
        self._rows.update({test: (seconds, "passed before") for test, seconds in self._remembered.items()})

    def _read(self) -> dict[str, float]:
        """The tests that passed with this code; those of other code are forgotten."""
        lines = self._passed_file.read_text(encoding="utf-8").splitlines() if self._passed_file.exists() else []
        if lines[:1] != [self._code]:
            self._passed_file.parent.mkdir(parents=True, exist_ok=True)
            self._passed_file.write_text(f"{self._code}\n", encoding="utf-8")
            return {}
        # a run killed while it wrote leaves a half line at the end: that test runs again
        pairs = [line.split("\t", 1) for line in lines[1:] if "\t" in line]
        return {test: float(seconds) for seconds, test in pairs}

    def pytest_report_header(self) -> str:
        return f"stress: {len(self._remembered)} passed before with this code and are not run again"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        passed = [item for item in items if item.nodeid in self._remembered]
        if passed:
            config.hook.pytest_deselected(items=passed)
            items[:] = [item for item in items if item.nodeid not in self._remembered]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds, outcome = self._rows.get(report.nodeid, (0.0, "passed"))
        # three phases make one outcome: what once was not "passed" stays so, and "failed" wins
        if report.failed or outcome == "passed":
            outcome = report.outcome
        self._rows[report.nodeid] = (seconds + report.duration, outcome)
        if report.when == "teardown":
            self._write(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        # everything that is left has passed before: that is success, not "no tests ran"
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._remembered:
            session.exitstatus = pytest.ExitCode.OK
        self._write_report()

    def _write(self, test: str) -> None:
        seconds, outcome = self._rows[test]
        if outcome == "passed":
            with self._passed_file.open("a", encoding="utf-8") as file:
                file.write(f"{seconds:.3f}\t{test}\n")
        self._write_report()

    def _write_report(self) -> None:
        total = sum(seconds for seconds, _ in self._rows.values())
        rows = [f"| `{test}` | {seconds:.1f} | {outcome} |" for test, (seconds, outcome) in sorted(self._rows.items())]
        head = ["# Stress report", "", f"Code {self._code[:12]}: {len(rows)} tests, {total:.0f} seconds.", ""]
        text = "\n".join([*head, "| test | seconds | outcome |", "|---|---:|---|", *rows, ""])
        self._report_file.write_text(text, encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):
        raise pytest.UsageError("the stress memory is kept by one process: run without -n")
    config.pluginmanager.register(StressMemory(FOLDER, fingerprint(REPOSITORY)), "stress-memory-of-the-project")
