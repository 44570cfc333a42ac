"""The main job on the sample sessions: copy them into SQLite, verify, and show one session in three ways.

``make demo`` runs it. Everything it writes is in ``build/demo``; what it says at the end was counted, not assumed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from legacy import FileSessionStore, LegacySessionStoreAdapter
from session_adapter import SessionStorageAdapter
from unified_storage import open_storage

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("unified-storage")
FILES = "examples/sessions"
URL = "sqlite:///build/demo/sessions.db"
SESSION = "orders-240611-073000-0c4d5e"
TIMES = ("created_at", "updated_at")


def main() -> None:
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may lack characters
    os.chdir(ROOT)
    shutil.rmtree("build/demo", ignore_errors=True)
    Path("build/demo").mkdir(parents=True)
    first, again = migrate()
    through_the_old_interface()
    seen = asyncio.run(through_the_new_interface())
    after = old_interface_sees_it()
    through_the_command_line()
    summarise(first, again, seen, after)


def migrate() -> tuple[dict[str, int], dict[str, int]]:
    """Copy, verify, and copy once more; the ledgers of both copies."""
    title("1. A folder of old session files becomes one SQLite store")
    command("copy", FILES, URL, "--report", "build/demo/report.json")
    first: dict[str, int] = json.loads(Path("build/demo/report.json").read_text())["ledger"]
    title("2. Is everything there?")
    command("verify", FILES, URL)
    title("3. Once more: it is safe, and writes nothing")
    again: dict[str, int] = json.loads(command("copy", FILES, URL, "--json", shown=False))["ledger"]
    print(f"   {again['equal']} of {again['read']} sessions are equal, {again['copied']} were written")
    return first, again


def through_the_old_interface() -> None:
    title("4. The same session, through the old synchronous interface")
    print(f'   store = LegacySessionStoreAdapter("{URL}")   # was: FileSessionStore("{FILES}")')
    session = old_view()
    print_messages(session["workflow_state"]["messages"][-2:])
    in_the_file = FileSessionStore(FILES).get_session(SESSION)
    check(without_times(session) == without_times(in_the_file), "the store hands out the document of the file")
    print("   It is the very document of the file, but for the two times that the store looks after.")


async def through_the_new_interface() -> int:
    """How many messages the session had before one more was appended."""
    title("5. Through the new asynchronous interface, which adds a message without rewriting the others")
    async with open_storage(URL) as storage:
        sessions = SessionStorageAdapter(storage)
        before = await sessions.events.read(SESSION)
        await sessions.events.append(SESSION, {"role": "assistant", "content": "Refunded: 12.90."})
        for event in await sessions.events.read(SESSION, last=2):
            print(f"   {event['seq']}. {event['role']}: {short(event['content'])}")
        page = await sessions.page_sessions({"user_id": "ines"}, limit=3)
        print(f"   sessions of ines: {', '.join(item['session_id'] for item in page.items)}")
    return len(before)


def old_interface_sees_it() -> int:
    """How many messages the session has now, by the old interface."""
    messages = old_view()["workflow_state"]["messages"]
    check(messages[-1]["content"] == "Refunded: 12.90.", "the old interface sees the new message")
    print("   The old interface sees it too:")
    print_messages(messages[-1:])
    return len(messages)


def through_the_command_line() -> None:
    title("6. And from the command line (contents stay hidden unless you ask with --show-values)")
    command("inspect", URL, SESSION)


def summarise(first: dict[str, int], again: dict[str, int], seen: int, after: int) -> None:
    check(first["read"] == first["copied"] == first["verified"] > 0, "every session was copied and verified")
    check(again["equal"] == again["read"] == first["read"], "the second copy found all of them equal")
    check(after == seen + 1, "one message was added")
    title("Summary")
    print(f"   {first['read']} session files read, {first['copied']} copied, {first['verified']} verified")
    print(f"   copied again: {again['equal']} equal, {again['copied']} written")
    print(f"   {SESSION}: {seen} messages, then {after}, the same in all three views")
    print("   The store is build/demo/sessions.db; try: .venv/bin/unified-storage inspect build/demo/sessions.db")


def old_view() -> dict[str, Any]:
    with LegacySessionStoreAdapter(URL, strict=True) as store:
        session = store.get_session(SESSION)
    check(session is not None, f"{SESSION} is there")
    return session or {}


def without_times(session: dict[str, Any] | None) -> dict[str, Any]:
    given = session or {}
    return {**given, "metadata": {key: value for key, value in given["metadata"].items() if key not in TIMES}}


def command(*arguments: str, shown: bool = True) -> str:
    """Run ``unified-storage``, whose result goes to the terminal, or is returned where it is not *shown*."""
    print(f"   $ unified-storage {' '.join(arguments)}", flush=True)
    done = subprocess.run([COMMAND, *arguments], stdout=None if shown else subprocess.PIPE, text=True)
    check(done.returncode == 0, f"unified-storage {arguments[0]} succeeds")
    return done.stdout or ""


def print_messages(messages: list[dict[str, Any]]) -> None:
    for message in messages:
        print(f"   {message['type']}: {short(message['content'])}")


def short(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:69]}…"


def title(text: str) -> None:
    print(f"\n{text}", flush=True)


def check(as_expected: bool, what: str) -> None:
    if not as_expected:
        raise SystemExit(f"demo: not so: {what}")


if __name__ == "__main__":
    main()
