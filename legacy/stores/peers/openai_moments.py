"""Times as the stores of openai-agents spell them: their own clock's naive wall time, or seconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from session_adapter.timestamps import read_time, render

_TEXT_OF = "_text"
"""Ends the name under which a document keeps what a column said, where its time alone would not be spelled so again."""


@dataclass(frozen=True, slots=True)
class Moments:
    """The times of one store.

    Attributes:
        engine: ``sqlite postgresql mysql redis``.
        zone: of its wall times: UTC, and on PostgreSQL that of the server; None is this machine's.
    """

    engine: str
    zone: tzinfo | None = UTC

    def told(self, name: str, value: Any) -> dict[str, Any]:
        """What a document says of the column *name* with *value*: the moment, as text in UTC."""
        if value is None:
            return {}
        spelled = value.isoformat(" ") if isinstance(value, datetime) else value
        moment = read_time(value, self.zone).moment
        if moment is None:
            return {name + _TEXT_OF: spelled}
        again = self._spelled(moment)
        return {name: render(moment)} | ({} if again == value else {name + _TEXT_OF: spelled})

    def column(self, name: str, told: Mapping[str, Any]) -> Any:
        """The column's value for what a document says; None where it says nothing."""
        text, moment = told.get(name + _TEXT_OF), read_time(told.get(name), UTC).moment
        if text is not None and (moment is None or read_time(text, self.zone).moment == moment):
            if self.engine not in ("postgresql", "mysql"):
                return text
            moment = moment or read_time(text, self.zone).moment
        return None if moment is None else self._spelled(moment)

    def settled(self, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """*told* with what a document will say of the column *name* once it was written."""
        others = {key: value for key, value in told.items() if key not in (name, name + _TEXT_OF)}
        return others | self.told(name, self.column(name, told))

    def _spelled(self, moment: datetime) -> Any:
        if self.engine in ("redis", "mysql"):  # which hold whole seconds
            moment = moment.replace(microsecond=0)
        if self.engine == "redis":
            return str(int(moment.timestamp()))
        wall = moment.astimezone(self.zone).replace(tzinfo=None)
        # CURRENT_TIMESTAMP of SQLite, which has whole seconds; order is that of the texts
        return wall.isoformat(" ") if self.engine == "sqlite" else wall
