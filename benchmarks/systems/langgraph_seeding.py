"""LangGraph's rows, serialised by its savers and written as they write them, many at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_metadata, get_serializable_checkpoint_metadata
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from psycopg.types.json import Jsonb

from benchmarks.systems.seeding import chunks

SQLITE = (
    "INSERT OR REPLACE INTO checkpoints"
    " (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
Made = tuple[CheckpointTuple, dict[str, Any]]
"""A checkpoint that follows on none, and the versions of its channels."""


async def insert(saver: Any, made: Sequence[Made]) -> None:
    """What ``aput`` does for each."""
    if isinstance(saver, AsyncSqliteSaver):
        await _into_sqlite(saver, made)
    else:
        await _into_postgresql(saver, made)


async def _into_sqlite(saver: Any, made: Sequence[Made]) -> None:
    rows = []
    for one, _ in made:
        metadata = json.dumps(get_checkpoint_metadata(one.config, one.metadata), ensure_ascii=False)
        type, data = saver.serde.dumps_typed(one.checkpoint)
        rows.append((*_place(one), one.checkpoint["id"], None, type, data, metadata.encode()))
    await saver.conn.executemany(SQLITE, rows)
    await saver.conn.commit()


async def _into_postgresql(saver: Any, made: Sequence[Made]) -> None:
    async with saver.conn.connection() as connection, connection.transaction(), connection.cursor() as cursor:
        for chunk in chunks(made):
            blobs, checkpoints = [], []
            for one, versions in chunk:
                values = one.checkpoint["channel_values"]
                inline = {name: value for name, value in values.items() if _is_inline(value)}
                apart = {name: value for name, value in values.items() if name not in inline}
                named = {name: version for name, version in versions.items() if name in apart}
                blobs += saver._dump_blobs(*_place(one), apart, named)
                metadata = get_serializable_checkpoint_metadata(one.config, one.metadata)
                checkpoint = {**one.checkpoint, "channel_values": inline}
                checkpoints.append((*_place(one), checkpoint["id"], None, Jsonb(checkpoint), Jsonb(metadata)))
            await cursor.executemany(saver.UPSERT_CHECKPOINT_BLOBS_SQL, blobs)
            await cursor.executemany(saver.UPSERT_CHECKPOINTS_SQL, checkpoints)


def _is_inline(value: Any) -> bool:
    """Whether the saver keeps a value in the row of the checkpoint."""
    return value is None or isinstance(value, (str, int, float, bool))


def _place(one: CheckpointTuple) -> tuple[str, str]:
    place = one.config["configurable"]
    return place["thread_id"], place["checkpoint_ns"]
