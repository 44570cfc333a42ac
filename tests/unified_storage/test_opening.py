"""From a URL to a storage: schemes, options, third parties (S2.33)."""

import importlib.metadata
from typing import Any

import pytest

from unified_storage import (
    IUnifiedStorage,
    StorageConfigurationError,
    StorageValidationError,
    backend_names,
    create_storage,
    open_storage,
    opening,
    register_backend,
)
from unified_storage.opening import SESSION_PATHS, parse_url
from unified_storage.testing.clock import ManualClock
from unified_storage.testing.drafts import ids, note, save_all, session, stored


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(opening, "_registered", {})


def shelf(url: opening.StorageURL, *, indexed, clock, **options: Any) -> IUnifiedStorage:
    """A third party's factory: a memory that remembers how it was opened."""
    storage = open_storage("memory://", clock=clock)
    storage.opened_with = (str(url), url.location, indexed, options)  # type: ignore[attr-defined]
    return storage


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:", "sqlite://", "MEMORY://", "memory://?pool_size=3"])
async def test_a_url_opens_a_storage_without_waiting(url: str) -> None:
    storage = open_storage(url)
    assert isinstance(storage, IUnifiedStorage)
    async with storage:
        await storage.save(note("a"))
        assert await storage.exists("a")


async def test_sqlite_paths_are_relative_with_three_slashes_and_absolute_with_four(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_storage("sqlite:///here.db") as storage:
        await storage.save(note("a"))
    assert (tmp_path / "here.db").is_file()
    async with open_storage(f"sqlite:///{tmp_path}/here.db") as storage:
        assert await storage.exists("a")
    async with open_storage("sqlite:///a%20b.db") as storage:
        await storage.save(note("a"))
    assert (tmp_path / "a b.db").is_file()


@pytest.mark.parametrize("url", ["", "memory", "/a/path.db", "://x", "sqlite:/x.db"])
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(StorageConfigurationError, match="sqlite:///"):
        open_storage(url)


def test_without_anything_to_open_it_says_what_to_give() -> None:
    with pytest.raises(StorageConfigurationError, match="URL"):
        open_storage()
    with pytest.raises(StorageConfigurationError, match="'shared'"):
        open_storage(instance_name="shared")


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    register_backend("shelf", shelf)
    with pytest.raises(StorageConfigurationError) as refusal:
        open_storage("sqlit:///x.db")
    assert {"memory", "sqlite", "shelf"} <= set(refusal.value.details["known"])
    assert "sqlite" in refusal.value.message


def test_a_refusal_shows_no_password() -> None:
    for url in (
        "nosql://user:hunter2@host/db",
        "user:hunter2@host",
        "redis:user:hunter2/hunter2@host?password=hunter2",
    ):
        with pytest.raises(StorageConfigurationError) as refusal:
            open_storage(url)
        assert "hunter2" not in str(refusal.value.to_dict())


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
def test_an_unknown_option_is_refused(url: str) -> None:
    with pytest.raises(StorageConfigurationError, match="colour"):
        open_storage(f"{url}?colour=red")
    with pytest.raises(StorageConfigurationError, match="colour"):
        open_storage(url, colour="red")


async def test_keywords_win_over_the_query_of_the_url() -> None:
    register_backend("shelf", shelf)
    storage = open_storage("shelf://u:hunter2@host/db?a=1&b=2&empty=", b=3, c=4)
    shown, location, _, options = storage.opened_with  # type: ignore[attr-defined]
    assert shown == "shelf://u:***@host/db?a=1&b=2&empty="
    assert location == "u:hunter2@host/db"
    assert options == {"a": "1", "b": 3, "empty": "", "c": 4}
    await storage.close()


async def test_a_registered_backend_opens_by_its_scheme() -> None:
    register_backend("shelf", shelf)
    assert "shelf" in backend_names()
    clock = ManualClock()
    async with open_storage("shelf://left", indexed={"note": ["data.tag"]}, clock=clock) as storage:
        await storage.save(note("a"))
        assert (await stored(storage, "a"))["created_at"] == clock()
        _, location, indexed, _ = storage.opened_with  # type: ignore[attr-defined]
        assert (location, indexed["note"]) == ("left", frozenset({("data", "tag")}))


async def test_an_installed_backend_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("installed", f"{__name__}:shelf", opening.ENTRY_POINT_GROUP)
    offered = {"unified_storage.backends": [point]}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: offered.get(group, []))
    assert "installed" in backend_names()
    async with open_storage("installed://there") as storage:
        await storage.save(note("a"))
        assert await storage.exists("a")


def test_a_backend_whose_driver_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opening._BACKENDS, "future", ("unified_storage.backends.of_tomorrow", "open_it", "future"))
    with pytest.raises(ImportError, match=r"pip install 'unified-storage\[future\]'"):
        open_storage("future://")


async def test_a_storage_is_made_of_a_type_and_settings(tmp_path) -> None:
    async with create_storage("memory") as storage:
        await storage.save(note("a"))
    path = tmp_path / "made.db"
    async with create_storage("sqlite", {"path": str(path), "pool_size": 2}) as storage:
        await storage.save(note("a"))
    assert path.is_file()
    register_backend("shelf", shelf)
    storage = create_storage("shelf", {"location": "left", "colour": "red"})
    assert storage.opened_with[1] == "left"  # type: ignore[attr-defined]
    assert storage.opened_with[3] == {"colour": "red"}  # type: ignore[attr-defined]
    await storage.close()


def test_a_type_that_is_not_known_lists_those_that_are() -> None:
    with pytest.raises(StorageConfigurationError, match=r"memory.*sqlite"):
        create_storage("mongodb", {"location": "x"})
    with pytest.raises(StorageConfigurationError, match="not of type"):
        create_storage("sqlite", {"url": "memory://"})


async def test_session_paths_are_always_indexed_and_further_ones_are_added() -> None:
    async with open_storage("memory://", indexed={"session": ["data.tag"], "note": ["data.n"]}) as storage:
        await save_all(storage, [session("s", {"tag": "x"}, metadata={"status": "a"}), note("n", {"n": 1})])
        for order_by in (*SESSION_PATHS, "data.tag", "data.n"):
            assert ids((await storage.page(order_by=order_by)).items) in (["n", "s"], ["s", "n"])
        with pytest.raises(StorageValidationError):
            await storage.page(order_by="data.other")


@pytest.mark.parametrize("indexed", [{"note": ["colour.x"]}, {"bad type": ["data.x"]}, {"note": [5]}])
def test_an_index_on_what_is_no_path_is_refused(indexed) -> None:
    with pytest.raises(StorageValidationError):
        open_storage("memory://", indexed=indexed)


def test_a_url_keeps_its_parts_as_written() -> None:
    url = parse_url("SQLite:////srv/a%20b/x.db?pool_size=2&x=a%3Db")
    assert (url.scheme, url.location, url.path) == ("sqlite", "//srv/a%20b/x.db", "/srv/a b/x.db")
    assert url.options == {"pool_size": "2", "x": "a=b"}
