"""Policies: how the value of a delta meets the one that is stored, on every level and whoever writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from session_adapter import ScopedSessionService, SessionKey
from unified_storage import DELETE, IUnifiedStorage, StorageConflictError, StorageError, StorageValidationError

KEY = SessionKey("shop", "ann", "s1")


def longest(stored: Any, new: Any) -> Any:
    return max(stored, new, key=len)


NAMED: list[tuple[Any, list[Any], Any]] = [
    ("last", [1, 2, 3], 3),
    ("first", [1, 2, 3], 1),
    ("sum", [1, 2.5, 3], 6.5),
    ("union", [{1}, {2}, {1}], {1, 2}),
    ("append", [[1], [2, 2], [1]], [1, 2, 2, 1]),
    ("max", [2, 3, 1], 3),
    (longest, ["a", "ccc", "bb"], "ccc"),
]


async def state_of(service: ScopedSessionService) -> Any:
    session = await service.get_session(KEY)
    assert session is not None
    return session.state


def name_of(policy: object) -> str:
    return str(getattr(policy, "__name__", policy))


@pytest.mark.parametrize("prefix", ["", "user:", "app:"])
@pytest.mark.parametrize(("policy", "values", "result"), NAMED, ids=[name_of(case[0]) for case in NAMED])
async def test_each_policy_by_its_name_and_a_function(storage, prefix, policy, values, result) -> None:
    """Through creation, events, and updates, all of which meet what is stored."""
    key = f"{prefix}key"
    service = ScopedSessionService(storage, policies={key: policy})
    await service.create_session(KEY, {key: values[0], f"{prefix}other": 1})
    await service.append_event(KEY, {"role": "user", "id": "e", "state_delta": {key: values[1]}})
    await service.append_event(KEY, {"role": "user", "id": "e", "state_delta": {key: values[1]}})  # known: not again
    await service.update_session_state(KEY, {key: values[2], f"{prefix}other": 2})
    assert await state_of(service) == {key: result, f"{prefix}other": 2}
    await service.update_session_state(KEY, {key: DELETE})
    await service.update_session_state(KEY, {key: values[2]})
    assert (await state_of(service))[key] == values[2]


async def test_states_of_app_and_user_have_theirs_by_their_prefixed_keys(storage) -> None:
    service = ScopedSessionService(storage, policies={"app:n": "sum", "user:n": "max"})
    for value in (3, 1, 2):
        await service.update_app_state("shop", {"n": value})
        await service.update_app_state("shop", {"app:n": value})
        await service.update_user_state(KEY.user, {"n": value})
    await service.create_session(KEY, {"n": 1})
    await service.update_session_state(KEY, {"n": 2})
    assert await state_of(service) == {"app:n": 12, "user:n": 3, "n": 2}


async def test_a_function_called_last_is_a_function(storage) -> None:
    def last(stored: Any, new: Any) -> Any:
        return [stored, new]

    service = ScopedSessionService(storage, policies={"k": last})
    await service.create_session(KEY, {"k": 1})
    await service.update_session_state(KEY, {"k": 2})
    assert await state_of(service) == {"k": [1, 2]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["events", "updates", "levels"])
async def test_sixteen_writers_of_one_key_equal_the_reference(storage, way: str) -> None:
    """Sum, append, union and max at once; what each adds counts once, in whatever order."""
    prefixes = {"events": "", "updates": "", "levels": "user:"}
    prefix, rounds = prefixes[way], 4
    policies = {f"{prefix}{name}": name for name in ("sum", "append", "union", "max")}
    service = ScopedSessionService(storage, policies=policies)
    await service.create_session(KEY)

    async def write(writer: int) -> None:
        for number in range(rounds):
            n = writer * rounds + number
            delta = {"sum": n, "append": [n], "union": {n % 7}, "max": n}
            delta = {f"{prefix}{name}": value for name, value in delta.items()}
            match way:
                case "events":
                    await service.append_event(KEY, {"role": "user", "state_delta": delta})
                case "updates":
                    await service.update_session_state(KEY, delta)
                case "levels":
                    await service.update_user_state(KEY.user, delta)

    await asyncio.gather(*(write(writer) for writer in range(16)))
    state, total = await state_of(service), 16 * rounds
    assert sorted(state.pop(f"{prefix}append")) == [*range(total)]
    assert state == {f"{prefix}sum": sum(range(total)), f"{prefix}union": {*range(7)}, f"{prefix}max": total - 1}


@pytest.mark.parametrize("prefix", ["", "user:", "app:"])
async def test_what_a_policy_refuses_leaves_everything_as_it_was(storage, prefix: str) -> None:
    def broken(stored: Any, new: Any) -> Any:
        raise RuntimeError("boom")

    policies: dict[str, Any] = {f"{prefix}n": "sum", f"{prefix}once": "error", f"{prefix}b": broken}
    service = ScopedSessionService(storage, policies=policies)
    await service.create_session(KEY, {f"{prefix}n": 1, f"{prefix}once": 1, f"{prefix}b": 1})
    before = await state_of(service)
    for key, error in (("n", StorageValidationError), ("once", StorageConflictError), ("b", StorageError)):
        for change in (
            service.append_event(KEY, {"role": "user", "state_delta": {"other": 2, f"{prefix}{key}": "text"}}),
            service.update_session_state(KEY, {"other": 2, f"{prefix}{key}": "text"}),
            service.create_session(SessionKey("shop", "ann", "new"), {f"{prefix}{key}": "text"})
            if prefix
            else service.update_session_state(KEY, {f"{key}": "text"}),
        ):
            with pytest.raises(error) as refused:
                await change
            assert not refused.value.retryable
            assert f"state.{prefix}{key}" in str(refused.value)
            assert refused.value.details["path"] == f"state.{prefix}{key}"
            assert isinstance(refused.value.cause, RuntimeError) or key != "b"
    assert await state_of(service) == before
    assert await service.get_session(SessionKey("shop", "ann", "new")) is None
    session = await service.get_session(KEY)
    assert session is not None
    assert session.events == []


@pytest.mark.parametrize("prefix", ["", "user:", "app:"])
async def test_an_event_that_is_known_is_not_asked_again_what_becomes_of_it(storage, prefix: str) -> None:
    """Sent again after others changed the key, it is refused by no policy."""
    service = ScopedSessionService(storage, policies={f"{prefix}once": "error", f"{prefix}n": "sum"})
    await service.create_session(KEY)
    event = {"role": "user", "id": "e1", "state_delta": {f"{prefix}once": 1, f"{prefix}n": 1}}
    assert await service.append_event(KEY, event) == 1
    await ScopedSessionService(storage).update_session_state(KEY, {f"{prefix}once": 2, f"{prefix}n": "text"})
    assert await service.append_event(KEY, event) == 1
    assert await state_of(service) == {f"{prefix}once": 2, f"{prefix}n": "text"}


def test_unknown_policies_are_refused() -> None:
    for wrong in ({"n": "adds"}, {"n": 5}):
        with pytest.raises(StorageValidationError):
            ScopedSessionService(policies=wrong)  # type: ignore[arg-type]


async def test_a_policy_reads_what_is_stored_in_the_step_that_writes(storage: IUnifiedStorage) -> None:
    """Two services with different policies on one store: the key's own service decides."""
    adding = ScopedSessionService(storage, policies={"n": "sum"})
    setting = ScopedSessionService(storage)
    await adding.create_session(KEY, {"n": 1})
    await setting.update_session_state(KEY, {"n": 10})
    await adding.update_session_state(KEY, {"n": 5})
    assert await state_of(adding) == {"n": 15}
