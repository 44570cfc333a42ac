"""Tool calls: the forms that writers give them, read as one, which is how events of other frameworks show theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from session_adapter.formats.places import is_mapping, text_of


class Call(NamedTuple):
    """One call. Its arguments are as they were written: a JSON text, or a value."""

    id: str | None
    name: str | None
    arguments: Any

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON text: as it was written, where it was."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps({} if self.arguments is None else self.arguments, ensure_ascii=False)

    @property
    def arguments_value(self) -> Any:
        """The arguments as a value; a text that is no JSON stays one."""
        if not isinstance(self.arguments, str):
            return {} if self.arguments is None else self.arguments
        try:
            return json.loads(self.arguments)
        except (ValueError, RecursionError):
            return self.arguments

    def shown(self) -> dict[str, Any]:
        """The form in which events show calls: ``{"id", "type", "function": {"name", "arguments"}}``."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments_text}}


def calls_of(event: Mapping[str, Any]) -> list[Call]:
    """The calls of an event, in whatever form its writer gave them; what is no call is left out."""
    listed = event.get("tool_calls")
    found = [call_of(item) for item in listed] if isinstance(listed, list) else []
    return [call for call in found if call is not None]


def call_of(item: Any) -> Call | None:
    """One call: ``function{name, arguments}`` or flat, arguments named ``arguments``, ``args`` or ``input``."""
    if not is_mapping(item):
        return None
    function = item.get("function")
    inner = function if is_mapping(function) else item
    arguments = next((inner[name] for name in ("arguments", "args", "input") if name in inner), None)
    id = text_of(item.get("id")) or text_of(item.get("call_id")) or text_of(item.get("tool_call_id"))
    return Call(id, text_of(inner.get("name")), arguments)
