"""What every test of the project finds ready."""

import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import engines, support

# Timings on a shared machine say nothing: no example has a deadline, and slow data is no failure. The timeout holds.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", UNTIMED, derandomize=True)
settings.register_profile("searching", UNTIMED, print_blob=True)
settings.load_profile("searching" if support.scale() == 1 else "repeatable")

LONG = timedelta(hours=1)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Inherited from a shell that runs us in the background; the programs we start have to hear Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # a worker of xdist takes the run it belongs to from the environment
        engines.begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        engines.end_run()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        engines.demand_required()


def pytest_report_header() -> list[str]:
    folder = support.fixtures_folder()
    found = folder if folder.is_dir() else f"MISSING ({folder}; UNIFIED_STORAGE_FIXTURES names it): tests are skipped"
    lines = [f"engine {name}: {state}" for name, state in support.engines().items()]
    return [*lines, f"fixtures: {found}", f"scale: {support.scale():g} of the full counts"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what scales, and give long counts a long time.

    Runs before the selection by -m, which asks for these marks.
    """
    for item in items:
        if "scaled" in getattr(item, "fixturenames", ()):
            item.add_marker("scaled")
        grows = item.get_closest_marker("stress") or (item.get_closest_marker("scaled") and support.scale() > 0.1)
        if grows and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG.total_seconds()))


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of the fixture data; without it the test is skipped, and the header says so."""
    folder = support.fixtures_folder()
    if not folder.is_dir():
        pytest.skip(f"no fixture data at {folder}; UNIFIED_STORAGE_FIXTURES names the folder")
    return folder


@pytest.fixture(scope="session")
def scaled() -> Callable[..., int]:
    """`scaled(n)`, `scaled(n, minimum=m)`: this run's part of a full count (see `tests.support.scaled`)."""
    return support.scaled
