"""Models that sum up in ways that tests want."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Told:
    """Answers ``summary 1``, ``summary 2`` ... and remembers what it was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def summarise(self, text: str) -> str:
        self.texts.append(text)
        return f"summary {len(self.texts)}"


class Meanwhile(Told):
    """Lets something happen before it, or the model it stands before, answers."""

    def __init__(self, happens: Callable[[], Awaitable[object]], model: Told | None = None) -> None:
        super().__init__()
        self._happens = happens
        self._model = model

    async def summarise(self, text: str) -> str:
        await self._happens()
        return await (super().summarise(text) if self._model is None else self._model.summarise(text))


class Failing:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or RuntimeError("out of order")

    async def summarise(self, text: str) -> str:
        raise self.error


class Saying:
    """Answers with anything at all."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def summarise(self, text: str) -> str:
        return self.answer  # type: ignore[return-value]  # that is what is tested


class Deaf:
    """Takes no notice of being cancelled until it is told to end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()
        self.ended = asyncio.Event()

    async def summarise(self, text: str) -> str:
        self.begun.set()
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                continue
        self.ended.set()
        raise RuntimeError("nobody hears this")
