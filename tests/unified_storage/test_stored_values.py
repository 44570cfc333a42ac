"""Values survive a whole backend, not only the codec: saved, updated, appended, read, listed, filtered."""

import random
from pathlib import Path

import pytest

from tests.unified_storage.test_values import generated, generated_document, mutated, same
from unified_storage import StorageIntegrityError, open_storage
from unified_storage.values import encode

BACKENDS = ["memory", "sqlite"]


@pytest.fixture(params=BACKENDS)
async def storage(request: pytest.FixtureRequest, tmp_path: Path):
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/values.db"
    async with open_storage(url) as opened:
        yield opened


@pytest.mark.timeout(900)
async def test_generated_documents_survive_storing(storage, scaled) -> None:
    """T2.22, T2.23: type and content, in documents, in entries, and through lists."""
    source = random.Random(11)
    total = scaled(20_000, minimum=400)
    for start in range(0, total, 200):
        documents = {f"d{n:06}": generated_document(source) for n in range(start, min(total, start + 200))}
        bodies = [generated(source, 12) for _ in documents]
        records = [{"id": name, "type": "note", "data": document} for name, document in documents.items()]
        await storage.batch_save(records)
        await storage.append("log@note/d000000", [{"body": body} for body in bodies])
        listed = await storage.list({"id": {"$in": [*documents]}})
        assert [record["id"] for record in listed] == [*documents]
        for record in listed:
            assert same(record["data"], documents[record["id"]])
        entries = await storage.read("log@note/d000000", last=len(bodies))
        assert all(same(entry["body"], body) for entry, body in zip(entries, bodies, strict=True))
        name, document = next(iter(documents.items()))
        await storage.update(name, {"thread_id": "moved"})
        assert same((await storage.load(name))["data"], document)


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
