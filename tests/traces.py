"""All that a store has left where it lies, to see that nothing came and nothing changed."""

from pathlib import Path
from typing import Any

from tests.engines import mysql_connection, postgresql_connection, redis_client
from tests.namespaces import is_cluster
from tests.places import Place
from tests.unified_storage.planting import planter_at


async def state_of(place: Place) -> dict[Any, Any]:
    """All there is of a store: its tables with their rows, or its keys with their values."""
    if place.engine.startswith("redis"):
        async with redis_client(place.url) as client:
            nodes = [{"target_nodes": node} for node in client.get_primaries()] if is_cluster(place.url) else [{}]
            keys = [key for node in nodes async for key in client.scan_iter(match=f"*{place.namespace}*", **node)]
            return {key: await client.dump(key) for key in keys}
    tables = await _tables_of(place)
    if not tables:
        return {}
    async with planter_at(place) as planter:
        return {**await planter.dump(), "schema": await planter.run("SELECT * FROM {schema}"), "tables": sorted(tables)}


async def _tables_of(place: Place) -> set[str]:
    if place.engine == "postgresql":
        async with postgresql_connection(place.url) as connection:
            rows = await connection.fetch("SELECT relname FROM pg_class WHERE strpos(relname, $1) > 0", place.namespace)
            return {row[0] for row in rows}
    if place.engine == "mysql":
        async with mysql_connection(place.url) as connection, connection.cursor() as cursor:
            told = "SELECT table_name FROM information_schema.tables WHERE LOCATE(%s, table_name) > 0"
            await cursor.execute(told, (place.namespace,))
            return {name for (name,) in await cursor.fetchall()}
    file = Path(place.url.removeprefix("sqlite:///"))
    if not file.exists():
        return set()
    async with planter_at(place) as planter:
        return {name for (name,) in await planter.run("SELECT name FROM sqlite_master")}
