"""Summaries as they stand in documents: our own, and those of other writers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from session_adapter.models import SessionSummary
from session_adapter.timestamps import Zone, read_time, render


def summary_in(found: Any, zone: Zone = None) -> SessionSummary | None:
    """The summary that a document has as *found*: an object with its text under ``content``, or ``summary``.

    None for what is none. Its time is None where it tells none that can be read.
    """
    if not isinstance(found, Mapping):
        return None
    text = {} if "content" in found else {"content": found.get("summary")}
    told = found.get("created_at") or found.get("updated_at")
    try:
        return SessionSummary.model_validate({**found, **text, "created_at": read_time(told, zone).moment})
    except ValidationError:
        return None


def summary_body(summary: SessionSummary) -> dict[str, Any]:
    """*summary* as documents keep it: its time is text in UTC, fields that are None are left out."""
    fields = summary.model_dump(warnings=False)
    return fields if summary.created_at is None else fields | {"created_at": render(summary.created_at)}
