"""Stored texts that were damaged: reading them gives the document or an error, never something else."""

import random
from pathlib import Path

from tests.unified_storage.test_values import generated_document, mutated
from unified_storage import StorageIntegrityError, open_storage
from unified_storage.values import encode


async def test_damaged_stored_texts_are_errors_and_nothing_else(tmp_path: Path, scaled) -> None:
    """Whatever stands in the file instead of a document, reading it gives the document or an integrity error."""
    source = random.Random(13)
    async with open_storage(f"sqlite:///{tmp_path}/values.db") as storage:
        for _ in range(scaled(2_000, minimum=100)):
            text = mutated(source, encode(generated_document(source)).encode())
            await storage.save({"id": "a", "type": "note", "data": {}})
            await put_instead(storage, text)
            record, damage = await load_or_damage(storage)
            if damage is None:
                assert record is not None
                assert type(record["data"]) is dict
            else:
                assert "'a'" in damage.message or "not UTF-8" in damage.message


async def load_or_damage(storage) -> tuple[dict | None, StorageIntegrityError | None]:
    try:
        return await storage.load("a"), None
    except StorageIntegrityError as error:
        return None, error


async def put_instead(storage, text: bytes) -> None:
    """Write a document's text past every check."""
    from unified_storage.backends.sql.statements import Call

    def steps():
        yield Call("UPDATE unified_documents SET data = CAST(? AS TEXT)", [text])

    await storage._engine.write(steps, 5)
