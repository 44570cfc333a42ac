"""Arguments of a wrong type get the same answer on every engine, word for word."""

from typing import Any

import pytest

from tests.places import ON_DISK, Place, engines
from unified_storage import IUnifiedStorage, StorageValidationError, open_storage
from unified_storage.testing.drafts import note
from unified_storage.testing.promises.arguments import CALLS, LOG, outcome_of, wrong_calls


async def answers(storage: IUnifiedStorage) -> dict[tuple[str, str, str], tuple[str, dict[str, Any]]]:
    """The refusal of every wrong call."""
    await storage.save(note("a", {"x": 1}))
    await storage.append(LOG, [{"body": 1}])
    found = {}
    for verb, name, value in wrong_calls():
        with pytest.raises(StorageValidationError) as refused:
            await outcome_of(storage, verb, {**CALLS[verb], name: value})
        found[verb, name, repr(value)] = (refused.value.message, refused.value.details)
    return found


@pytest.mark.parametrize("engine", engines(*ON_DISK))
async def test_what_is_wrong_with_an_argument_is_told_in_the_same_words_everywhere(place: Place) -> None:
    async with open_storage("memory://") as reference, place.open() as storage:
        expected = await answers(reference)
        assert len(expected) > 300
        assert await answers(storage) == expected
