"""The code blocks of a page, run one after the other as a reader would.

``python`` blocks of one page share their names, as in ``python -m asyncio``, where ``await`` works at top level. What
a block prints stands in the ``text`` block right behind it. In ``console`` blocks the lines behind ``$`` are commands,
and the others what they print. ``bash`` blocks only have to succeed. Other blocks are no code.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.docs.page_servers import PageServer

FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 240
_MARK = "--- the next command ---"
_MASKED = (
    (re.compile(r"20(2[5-9]|[3-9]\d)-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"), "TIME"),
    (re.compile(r"\b(\d+ min )?\d+(\.\d+)? s\b"), "DURATION"),
    (re.compile(r"(?m)^(\s*latency_ms\s+|.*latency_ms.: )[\d.]+"), r"\1MILLISECONDS"),
    (re.compile(r"(?m)^(\s*version\s+|\s*engine\s+\w+ )\d+\.\d+\.\d+"), r"\1VERSION"),
    (re.compile(r"(?m)^(?:looking|copying|verifying)\b.*\n"), ""),
    (re.compile(r"(?m)[ \t]+$"), ""),
)
READERS_FOLDER = "/home/ann/unified-storage"
"""What pages call the folder in which they are read."""


@dataclass(frozen=True)
class Block:
    """A code block: its kind, its text, the line it begins in, and what stands behind it as its output."""

    kind: str
    text: str
    line: int
    output: str | None


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page that are code, in order."""
    found = list(FENCE.finditer(page))
    blocks = []
    for place, match in enumerate(found):
        following = found[place + 1] if place + 1 < len(found) else None
        shown = following and following["kind"] == "text" and not page[match.end() : following.start()].strip()
        output = following["body"] if following is not None and shown else None
        blocks.append(Block(match["kind"], match["body"], page.count("\n", 0, match.start()) + 1, output))
    return [block for block in blocks if block.kind in ("python", "console", "bash")]


def masked(text: str, folder: Path | None = None) -> str:
    """*text* without what differs from run to run; *folder* is the one that the reader's own name stands for."""
    if folder is not None:
        text = text.replace(str(folder), READERS_FOLDER)
    for pattern, mask in _MASKED:
        text = pattern.sub(mask, text)
    return text.strip()


class Reader:
    """Somebody who runs the blocks of one page.

    Args:
        folder: the working folder, which it is already.
        server: stands for the one that the page writes about.
    """

    def __init__(self, folder: Path, server: PageServer | None = None) -> None:
        self._folder = folder
        self._server = server
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._runner = asyncio.Runner()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def run(self, block: Block) -> Iterator[tuple[str, str, str]]:
        """Run *block*: for each thing it does what that is, what it should print, and what it printed."""
        if block.kind == "python":
            printed = self._python(block)
            if block.output is not None:
                yield block.text, masked(block.output), self._as_told(printed)
        elif block.kind == "bash":
            self._commands([block.text])
        else:
            commands, outputs = _session(block.text)
            for command, output, printed in zip(commands, outputs, self._commands(commands), strict=True):
                yield command, masked(output), self._as_told(printed)

    def _as_told(self, printed: str) -> str:
        return masked(printed if self._server is None else self._server.as_told(printed), self._folder)

    def _python(self, block: Block) -> str:
        text = block.text if self._server is None else self._server.in_python(block.text)
        code = compile(text, f"line {block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(_awaited(code, self._names))
            else:
                exec(code, self._names)  # noqa: S102  # pages of this repository
        return printed.getvalue()

    def _commands(self, commands: list[str]) -> list[str]:
        """What each of *commands* prints in one shell; one that fails has to be followed by ``echo $?``."""
        script = ["exec 2>&1"]
        for command, following in zip(commands, [*commands[1:], ""], strict=True):
            script += [
                command if self._server is None else self._server.in_shell(command),
                "" if following.strip() == "echo $?" else "(exit $?) || exit",
                "code=$?",
            ]
            script += [f"printf '%s\\n' {shlex.quote(_MARK)}", "(exit $code)"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=self._folder,
            env=environment | {"PATH": path, "TZ": "UTC", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            timeout=SECONDS,
        )
        printed = done.stdout.split(f"{_MARK}\n")
        assert len(printed) == len(commands) + 1, f"failed with {done.returncode}: {commands}\n{done.stdout}"
        return printed[:-1]


async def _awaited(code: Any, names: dict[str, Any]) -> None:
    await eval(code, names)  # noqa: S307  # pages of this repository


def _session(text: str) -> tuple[list[str], list[str]]:
    """The commands of a console block, continued lines joined, and the output of each."""
    commands: list[str] = []
    outputs: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
            outputs.append("")
        elif commands and commands[-1].endswith("\\"):
            commands[-1] += f"\n{line.removeprefix('> ')}"
        else:
            assert commands, f"output without a command: {line}"
            outputs[-1] += f"{line}\n"
    return commands, outputs
