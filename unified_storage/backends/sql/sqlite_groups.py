"""Writes that share one transaction on SQLite: each fails or succeeds for itself."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from unified_storage.backends.sql.sqlite_appends import AppendJob, append_together
from unified_storage.backends.sql.sqlite_connection import SQLiteConnection
from unified_storage.backends.sql.sqlite_jobs import Job
from unified_storage.errors import StorageError


class HalfDoneError(Exception):
    """One of several writes has failed after it had changed something, which is to be undone without the others."""


def run_one(connection: SQLiteConnection, job: Job[Any]) -> None:
    if isinstance(job, AppendJob):
        (outcome,) = connection.run(lambda: append_together([job]))
        _finish(job, outcome)
    else:
        job.finish(connection.run(job.steps), None)


def run_together(connection: SQLiteConnection, jobs: list[Job[Any]]) -> None:
    """Run each in its turn, appends that follow each other at once; what is refused has changed nothing."""
    for kind, stretch in groupby(jobs, type):
        if kind is AppendJob:
            _append_all(connection, stretch)
        else:
            for job in stretch:
                _run_unless_half_done(connection, job)


def _append_all(connection: SQLiteConnection, jobs: Iterable[Any]) -> None:
    by_store: dict[str, list[AppendJob]] = {}
    for job in jobs:
        by_store.setdefault(job.store.statements.prefix, []).append(job)
    for members in by_store.values():
        try:
            outcomes = connection.run(lambda: append_together(members))  # noqa: B023 (run at once)
        except Exception as error:
            if not connection.in_transaction:
                raise  # it took all the others with it
            raise HalfDoneError from error  # whose fault it is shows when each is run apart
        for job, outcome in zip(members, outcomes, strict=True):
            _finish(job, outcome)


def _finish(job: Job[Any], outcome: list[int] | StorageError) -> None:
    if isinstance(outcome, StorageError):
        job.finish(None, outcome)
    else:
        job.finish(outcome, None)


def _run_unless_half_done(connection: SQLiteConnection, job: Job[Any]) -> None:
    before = connection.changes
    try:
        job.finish(connection.run(job.steps), None)
    except Exception as error:
        if not connection.in_transaction:
            raise  # it took all the others with it
        if connection.changes != before:
            raise HalfDoneError from error
        job.finish(None, error)


def run_apart(connection: SQLiteConnection, jobs: list[Job[Any]]) -> None:
    for job in jobs:
        try:
            job.finish(connection.run_apart(job.steps), None)
        except Exception as error:
            job.finish(None, error)
            if not connection.in_transaction:
                raise  # it took all the others with it
