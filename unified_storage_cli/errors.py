"""The one wrapper around every command: a failure becomes one line that says what to do next, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from unified_storage_cli.output import print_error, print_json, print_note

DONE = 0
USAGE = 1
STORE_ERROR = 4
INTERRUPTED = 130
DEBUG = "UNIFIED_STORAGE_DEBUG"
"""Environment variable: when set, a failure is shown with its traceback, which may quote values."""

AGAIN = "run the same command again: it goes on where it stopped and repeats nothing"
_NEXT = {
    "STORAGE_CONNECTION_ERROR": f"see that the store can be reached, then {AGAIN}",
    "STORAGE_CAPACITY_ERROR": f"see that there is room, then {AGAIN}",
    "STORAGE_PERMISSION_ERROR": f"see that this user may read and write there, then {AGAIN}",
    "STORAGE_CONFLICT_ERROR": f"stop other writers, then {AGAIN}",
    "STORAGE_TIMEOUT_ERROR": AGAIN,
    "STORAGE_TRANSACTION_ERROR": AGAIN,
    "STORAGE_INTEGRITY_ERROR": "unified-storage doctor URL says what is damaged",
    "STORAGE_NOT_FOUND_ERROR": "unified-storage inspect URL says what is there",
}
"""What to do next, by an error's code; the messages of others say it themselves."""


def told(run: Callable[[], Any], arguments: Sequence[str]) -> int:
    """The exit code of *run*, whose failure is told on stderr, with ``--json`` among *arguments* on stdout too."""
    try:
        code = int(run() or DONE)
    except typer.Abort:
        code = INTERRUPTED
    except typer.TyperException as error:
        return _usage(error, arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  # whatever a command raises is told here, in one line
        return _failure(error, arguments)
    if code == INTERRUPTED:
        _tell(
            f"interrupted; {AGAIN}" if "copy" in arguments[:1] else "interrupted",
            arguments,
            {"type": "Interrupted"},
            INTERRUPTED,
        )
    return code


def _usage(error: typer.TyperException, arguments: Sequence[str]) -> int:
    from unified_storage.errors import redacted

    context = getattr(error, "ctx", None)
    program = context.command_path if context else "unified-storage"
    message = redacted(error.format_message())
    if not arguments:  # asked for nothing, so the message is the whole help
        print_note(message)
        return USAGE
    sentence = message.rstrip(".")
    _tell(f"{sentence}; {program} --help says how", arguments, {"type": "UsageError", "message": sentence}, USAGE)
    return USAGE


def _failure(error: Exception, arguments: Sequence[str]) -> int:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    from legacy.migration.exit_codes import exit_code_of

    code = exit_code_of(error)
    if code is None:
        code = USAGE if isinstance(error, ImportError) else STORE_ERROR
    line, facts = _described(error)
    _tell(line, arguments, facts, code)
    return code


def _described(error: Exception) -> tuple[str, dict[str, Any]]:
    """One line for a person, and the facts for a program."""
    from unified_storage.errors import StorageError, redacted

    if isinstance(error, StorageError):
        following = _NEXT.get(error.error_code)
        facts = {key: value for key, value in error.to_dict().items() if key != "cause"}
        return f"{error.message}; {following}" if following else error.message, facts
    message = redacted(str(error)) if isinstance(error, OSError | ImportError) else _place_of(error)
    facts = {"type": type(error).__name__, "message": message}
    if isinstance(error, OSError):
        return f"{message}; mend that, then {AGAIN}", facts
    if isinstance(error, ImportError):
        return f"{message}; install what is missing, then run it again", facts
    return f"unexpected {type(error).__name__} at {message}; please report it with the traceback of {DEBUG}=1", facts


def _place_of(error: Exception) -> str:
    """Where *error* arose. Its own words may quote values, which are shown to nobody unasked."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _tell(line: str, arguments: Sequence[str], facts: dict[str, Any], code: int) -> None:
    print_error(line)
    if "--json" in arguments:
        is_follower = any(argument.partition("=")[0] == "--follow" for argument in arguments)
        print_json({"error": facts, "exit_code": code}, on_one_line=is_follower)
    sys.stderr.flush()
