"""Bringing the states of parallel branches together: what each changed since the common start, in branch order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from session_adapter.comparing import same
from session_adapter.formats.places import ABSENT, value_at
from session_adapter.policies import PolicyName, policies_of, policy_of
from session_adapter.workflow.errors import StateConflictError, StateCopyError
from session_adapter.workflow.state import Held, SessionState, copied
from unified_storage.record import DELETE

Path = tuple[str, ...]
BranchName = int | str
State = SessionState | Mapping[str, Any]


@dataclass(frozen=True)
class Conflict:
    """A place that several branches changed differently.

    Attributes:
        path: the key, and in a deep merge the keys inside its value.
        branches: who changed it, in branch order.
        values: what each of them left there; ``DELETE`` where it deleted it.
        policy: by which it was decided.
    """

    path: Path
    branches: tuple[BranchName, ...]
    values: tuple[Any, ...]
    policy: str

    @property
    def key(self) -> str:
        """The key of the state."""
        return self.path[0]

    def to_dict(self) -> dict[str, Any]:
        """Its facts as plain data."""
        facts = {"key": self.key, "path": list(self.path), "branches": list(self.branches)}
        return facts | {"values": list(self.values), "policy": self.policy}


class MergedState(SessionState):
    """A state that a merge made.

    Attributes:
        conflicts: where branches changed the same place differently, in the order of the keys.
    """

    conflicts: tuple[Conflict, ...] = ()


def merge_parallel_session_states(
    original: State | None,
    modified: Sequence[State | None],
    *,
    policies: Mapping[str | Path, PolicyName] | None = None,
    default: PolicyName = "last",
    deep: bool = False,
    names: Sequence[BranchName] | None = None,
) -> MergedState:
    """What the branches make together of the state that they all began with.

    Only what a branch changed counts: keys it added, changed in value or type, or deleted. The changes are applied in
    the order of *modified*, so that the answer never depends on which branch ended first. None of the states is
    changed.

    Args:
        original: the common start; None for an empty one.
        modified: the state of each branch at its end; None for one that changed nothing.
        policies: by key, what happens where branches meet (``session_adapter.policies``). In a deep merge a tuple of
            keys names a place inside a value; a place with a policy of its own is merged whole.
        default: the policy of all other keys: the later branch wins.
        deep: merge dicts within values place by place, so that branches that changed different places of one value
            both count.
        names: what the branches are called in conflicts; by default their places in *modified*, from 0.
    Raises:
        StateConflictError: of a key with the policy ``error``; it lists keys, branches and values.
        StorageValidationError: an unknown policy, or one that is not for the values it met.
    """
    start = _as_state(original)
    branches = [start if branch is None else _as_state(branch) for branch in modified]
    held = [branch.snapshot() for branch in branches]
    merge = _Merge(start.snapshot(), policies, default, deep)
    for state in held:
        merge.add(state)
    conflicts = merge.conflicts(range(len(held)) if names is None else names)
    refused = [conflict for conflict in conflicts if conflict.policy == "error"]
    if refused:
        raise _refusal(refused)
    made = MergedState()
    made._rules = start._rules
    made.apply(merge.held())
    made.conflicts = tuple(conflicts)
    return made


def changes_between(before: Mapping[str, Held], after: Mapping[str, Held]) -> dict[str, Held | None]:
    """What has to be applied to *before* to have *after*; None for a key that is gone."""
    changes: dict[str, Held | None] = {
        key: held for key, held in after.items() if key not in before or not held.same_as(before[key])
    }
    return changes | {key: None for key in before if key not in after}


class _Merge:
    """One merge, branch by branch. The values are those of the states themselves, so none of them is ever changed."""

    def __init__(
        self,
        start: Mapping[str, Held],
        policies: Mapping[str | Path, PolicyName] | None,
        default: PolicyName,
        deep: bool,
    ) -> None:
        by_place = policies_of(policies)
        self._policies = {(place,) if isinstance(place, str) else place: by_place[place] for place in by_place}
        self._default = policy_of(default)
        self._deep = deep
        self._sources = [start]
        self._start = _values(start)
        self._merged = _values(start)
        self._branches: list[dict[str, Any]] = []
        self._changed: dict[Path, set[int]] = {}

    def add(self, branch: Mapping[str, Held]) -> None:
        """Apply what the next branch changed."""
        self._sources.append(branch)
        self._branches.append(_values(branch))
        self._merged = self._applied((), self._start, self._merged, self._branches[-1])

    def held(self) -> dict[str, Held]:
        """The merged values; one that stands in a state under its key keeps what is known of it."""
        return {key: self._source(key, value) or Held(value, own=True) for key, value in self._merged.items()}

    def _source(self, key: str, value: Any) -> Held | None:
        found = (source.get(key) for source in self._sources)
        return next((held for held in found if held is not None and held.value is value), None)

    def conflicts(self, names: Sequence[BranchName]) -> list[Conflict]:
        """Where branches differ."""
        places: dict[Path, set[int]] = {}
        for path, branches in sorted(self._changed.items(), key=lambda item: len(item[0])):
            above = (path[:length] for length in range(1, len(path)))
            place = next((end for end in above if end in places), path)
            places[place] = places.get(place, set()) | branches
        found = [self._conflict(path, sorted(branches), names) for path, branches in places.items()]
        return [conflict for conflict in found if conflict is not None]

    def _conflict(self, path: Path, branches: Sequence[int], names: Sequence[BranchName]) -> Conflict | None:
        values = [value_at(self._branches[branch], path) for branch in branches]
        if all(same(value, values[0]) for value in values[1:]):
            return None
        shown = tuple(_shown(path[0], value) for value in values)
        policy = self._policies.get(path, self._default)
        return Conflict(path, tuple(names[branch] for branch in branches), shown, policy.name)

    def _applied(
        self, path: Path, start: Mapping[str, Any], merged: Mapping[str, Any], branch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """*merged* with what *branch* changed of *start*."""
        result = dict(merged)
        for key in dict.fromkeys((*branch, *start)):
            before, value = start.get(key, ABSENT), branch.get(key, ABSENT)
            if same(before, value):
                continue
            place = (*path, key)
            inside = self._mappings(place, before, result.get(key, ABSENT), value)
            if inside is not None:
                result[key] = self._applied(place, *inside)
            else:
                self._meet(place, result, before, value)
        return result

    def _meet(self, place: Path, merged: dict[str, Any], start: Any, value: Any) -> None:
        self._changed.setdefault(place, set()).add(len(self._branches) - 1)
        policy = self._policies.get(place, self._default)
        key = place[-1]
        merged[key] = policy.merge(start, merged.get(key, ABSENT), value, path=".".join(place))
        if merged[key] is ABSENT:
            del merged[key]

    def _mappings(self, place: Path, start: Any, merged: Any, value: Any) -> tuple[dict[str, Any], ...] | None:
        """Start, merged and branch at *place* where they are merged key by key; None where they are merged whole."""
        if not self._deep or place in self._policies:
            return None
        if start is ABSENT and _has_places(value) and value:  # an empty one has no places to merge
            start, merged = {}, {} if merged is ABSENT else merged
        found = (start, merged, value)
        return found if all(map(_has_places, found)) else None


def _as_state(state: State | None) -> SessionState:
    return state if isinstance(state, SessionState) else SessionState(state)


def _values(held: Mapping[str, Held]) -> dict[str, Any]:
    return {key: item.value for key, item in held.items()}


def _has_places(value: Any) -> bool:
    return type(value) is dict and all(type(key) is str for key in value)


def _shown(key: str, value: Any) -> Any:
    if value is ABSENT:
        return DELETE
    try:
        return copied(key, value)
    except StateCopyError:
        return value


def _refusal(conflicts: Iterable[Conflict]) -> StateConflictError:
    listed = [conflict.to_dict() for conflict in conflicts]
    told = "; ".join(
        f"{'.'.join(facts['path'])}: "
        + ", ".join(f"{name} has {value!r}" for name, value in zip(facts["branches"], facts["values"], strict=True))
        for facts in listed
    )
    return StateConflictError(f"branches changed the same key differently ({told})", details={"conflicts": listed})
