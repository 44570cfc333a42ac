"""``unified-storage serve``: sessions over HTTP, as AgentOS answers."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from unified_storage_cli.output import print_note


def serve(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The storage, or agno+URL for AgentOS's own tables. [default: what AGNO_SESSION_DSN_MAP,"
            " AGNO_PG_DSN or DATABASE_URL says, else sqlite:///sessions.db]",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The port. [default: AGNO_SERVICE_PORT, else 8080]", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 is everywhere.")] = "127.0.0.1",
) -> None:
    """Answer AgentOS's /sessions requests from one of our storages.

    Runs until Ctrl-C or SIGTERM, and then finishes what is under way. Without OS_SECURITY_KEY or JWT_VERIFICATION_KEY
    in the environment it asks nobody for a key.
    """
    try:
        from session_api.serving import serve as answer_requests
        from session_api.settings import EMBEDDED, names_a_database, settings_from
    except ImportError as error:
        raise ImportError("pip install 'unified-storage[api]' for the HTTP service") from error
    if url is None and not names_a_database(os.environ):
        url = EMBEDDED
        print_note(f"No database is named, so sessions are kept in {url} (--url names another).")
    answer_requests(settings_from(os.environ, url=url, port=port), host=host)
