"""What merging branches must give, said the simple way: with texts of values, and no code of the merge itself."""

from __future__ import annotations

from typing import Any

Operation = tuple[str, str, Any]
"""``("set", key, value)`` or ``("delete", key, None)``."""


def text_of(value: Any) -> str:
    """A text that two values share only if they have the same types and content."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{text_of(key)}:{text_of(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple):
        return type(value).__name__ + "(" + ",".join(map(text_of, value)) + ")"
    return f"{type(value).__name__} {value!r}"


def played(start: dict[str, Any], operations: list[Operation]) -> dict[str, Any]:
    """The state of a branch at its end."""
    state = dict(start)
    for act, key, value in operations:
        if act == "set":
            state[key] = value
        else:
            state.pop(key, None)
    return state


def merged(start: dict[str, Any], branches: list[dict[str, Any]]) -> dict[str, Any]:
    """All changes of the first branch, then all of the second, and so on."""
    result = dict(start)
    for branch in branches:
        for key in {*start, *branch}:
            before = text_of(start[key]) if key in start else "nothing"
            after = text_of(branch[key]) if key in branch else "nothing"
            if before == after:
                continue
            if key in branch:
                result[key] = branch[key]
            else:
                result.pop(key, None)
    return result


def conflicts(start: dict[str, Any], branches: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Keys that several branches changed differently, and which branches changed them."""
    found = {}
    for key in {key for state in (start, *branches) for key in state}:
        texts = [text_of(state[key]) if key in state else "nothing" for state in (start, *branches)]
        changed = [branch for branch, text in enumerate(texts[1:]) if text != texts[0]]
        if len({texts[branch + 1] for branch in changed}) > 1:
            found[key] = changed
    return found


def flat(state: dict[str, Any]) -> dict[str, Any]:
    """A state of two levels with a dot between the keys."""
    return {f"{key}.{inner}": item for key, value in state.items() for inner, item in value.items()}
