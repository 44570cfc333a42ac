"""What happens when a value meets one that is there already: a new value the stored one, a branch the merged state.

Pure functions, by name or a function of the caller's own. A branch is a copy of a state that went its own way from a
common start; only what it changed counts.

========== ===================================== ==========================================================
policy     a new value meets the stored one      a branch's value meets what the branches before it made
========== ===================================== ==========================================================
``last``   the new one                           this branch's
``first``  the stored one                        that of the first branch that changed it
``error``  ``StorageConflictError``              ``StorageConflictError``, where the branches differ
``sum``    both added (numbers)                  what this branch added to the start is added
``union``  both without repetitions (sets,       this branch's are added; nothing is taken away
           lists)
``append`` the new ones behind (lists, tuples)   what this branch has behind the start's comes behind
``max``    the greater (numbers, texts, times)   the greater; it never sinks below the start
function   ``f(stored, new)``                    ``f(merged, value)``
========== ===================================== ==========================================================

Where nothing is stored, or was deleted, the new value is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from session_adapter.comparing import same
from session_adapter.formats.places import ABSENT
from unified_storage.errors import StorageConflictError, StorageValidationError

Reducer = Callable[[Any, Any], Any]
PolicyName = str | Reducer

_NUMBERS = (int, float, Decimal)


class _Unfit(Exception):
    """A policy that does not know what to do with such values; the text says what it wants."""


@dataclass(frozen=True)
class Policy:
    """One of the policies; :func:`policy_of` hands them out."""

    name: str
    _of_values: Callable[[Any, Any], Any]
    _of_branches: Callable[[Any, Any, Any], Any]

    def meet(self, stored: Any, new: Any, *, path: str) -> Any:
        """What to store where *new* meets *stored* (``ABSENT`` for nothing). Neither is changed.

        Args:
            path: what the place is called in errors.
        Raises:
            StorageConflictError: of the policy ``error``, where the two differ.
            StorageValidationError: the policy is not for such values.
        """
        return new if stored is ABSENT else self._fit(path, lambda: self._of_values(stored, new))

    def merge(self, start: Any, merged: Any, value: Any, *, path: str) -> Any:
        """What stands in the merged state where a branch changed *start* to *value*. Nothing given is changed.

        Args:
            start: what all branches began with; ``ABSENT`` for nothing.
            merged: what the branches before this one made of it; ``ABSENT`` for nothing.
            value: what this branch has; ``ABSENT`` where it deleted it.
        Returns:
            ``ABSENT`` where nothing stands there.
        Raises:
            StorageValidationError: the policy is not for such values.
        """
        if self._of_branches is _first_branch:  # a deletion may have been first
            return _first_branch(start, merged, value)
        if merged is ABSENT or value is ABSENT:
            return value
        return self._fit(path, lambda: self._of_branches(start, merged, value))

    def _fit(self, path: str, reduced: Callable[[], Any]) -> Any:
        try:
            return reduced()
        except _Unfit as error:
            message = f"{path}: the policy {self.name} {error}"
            raise StorageValidationError(message, details={"path": path, "policy": self.name}) from None
        except StorageConflictError as error:
            raise StorageConflictError(f"{path}: {error.message}", details={"path": path}) from None


def policy_of(policy: PolicyName) -> Policy:
    """The policy of that name, or the one that *policy*, a function ``(stored, new) -> value``, is.

    Raises:
        StorageValidationError: no such name, and no function.
    """
    if isinstance(policy, str) and policy in POLICIES:
        return POLICIES[policy]
    if not isinstance(policy, str) and callable(policy):
        return _own(policy)
    known = ", ".join(POLICIES)
    raise StorageValidationError(f"no policy {policy!r}; known are {known}, or a function", details={"path": "policy"})


def policies_of(policies: Mapping[Any, PolicyName] | None) -> dict[Any, Policy]:
    """Each of *policies* by its key, checked as :func:`policy_of` does."""
    return {key: policy_of(policy) for key, policy in (policies or {}).items()}


def _own(function: Reducer) -> Policy:
    def reduced(stored: Any, new: Any) -> Any:
        # copies: a reducer may well append to the list that it is given, or keep what it returns
        return deepcopy(function(deepcopy(stored), deepcopy(new)))

    name = getattr(function, "__name__", type(function).__name__)
    return Policy(name, reduced, lambda _, merged, value: reduced(merged, value))


def _last(_: Any, new: Any) -> Any:
    return new


def _first(stored: Any, _: Any) -> Any:
    return stored


def _first_branch(start: Any, merged: Any, value: Any) -> Any:
    return value if same(start, merged) else merged


def _no_other(stored: Any, new: Any) -> Any:
    if same(stored, new):
        return stored
    raise StorageConflictError("another value is there already")


def _added(stored: Any, new: Any) -> Any:
    if not {type(stored), type(new)} <= set(_NUMBERS) or {type(stored), type(new)} == {float, Decimal}:
        raise _Unfit("wants numbers, and Decimal never with float")
    try:
        return stored + new
    except ArithmeticError as error:  # an integer too large for a float, infinities in Decimal
        raise _Unfit(f"cannot add such numbers ({type(error).__name__})") from error


def _added_by_branch(start: Any, merged: Any, value: Any) -> Any:
    if start is ABSENT:
        return _added(merged, value)
    change = _added(value, -_number(start))
    # Nobody before it changed anything: no rounding then.
    return value if same(start, merged) else _added(merged, change)


def _number(value: Any) -> Any:
    _added(value, 0)
    return value


def _union(stored: Any, new: Any) -> Any:
    if type(stored) is not type(new) or type(new) not in (set, frozenset, list):
        raise _Unfit("wants sets, or lists")
    if type(new) is not list:
        return stored | new
    together: list[Any] = []
    for item in (*stored, *new):
        if not any(same(item, there) for there in together):
            together.append(item)
    return together


def _appended(stored: Any, new: Any) -> Any:
    if type(stored) is not type(new) or type(new) not in (list, tuple):
        raise _Unfit("wants lists, or tuples")
    return stored + new


def _appended_by_branch(start: Any, merged: Any, value: Any) -> Any:
    if type(start) is type(value) and type(value) in (list, tuple):
        value = value[_common(start, value) :]
    return _appended(merged, value)


def _common(left: Any, right: Any) -> int:
    """How many items both begin with."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if not same(one, other)), min(len(left), len(right)))


def _greater(stored: Any, new: Any) -> Any:
    alike = type(stored) is type(new) and type(new) not in (bool, dict, set, frozenset)
    if not alike and not {type(stored), type(new)} <= set(_NUMBERS):
        raise _Unfit("wants numbers, or values of one kind that have an order")
    if stored != stored:  # NaN is below everything
        return new
    try:
        return max(stored, new)
    except TypeError as error:
        raise _Unfit("wants values that have an order") from error


def _any_branch(values: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda _, merged, value: values(merged, value)


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Policy("last", _last, _any_branch(_last)),
            Policy("first", _first, _first_branch),
            Policy("error", _no_other, _any_branch(_last)),  # what merges compares all branches first
            Policy("sum", _added, _added_by_branch),
            Policy("union", _union, _any_branch(_union)),
            Policy("append", _appended, _appended_by_branch),
            Policy("max", _greater, _any_branch(_greater)),
        )
    }
)
"""The policies that have a name."""
