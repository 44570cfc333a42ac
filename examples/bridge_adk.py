"""An agent of Google's ADK, with a scripted model: ``python examples/bridge_adk.py [URL]``, which remembers."""

import asyncio
import sys
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types

from session_bridges.adk import UnifiedSessionService


class Scripted(BaseLlm):  # type: ignore[misc]  # a class of a framework that is not installed where types are checked
    async def generate_content_async(self, request: LlmRequest, stream: bool = False) -> AsyncGenerator[LlmResponse]:
        said = [content.parts[0].text for content in request.contents if content.role == "user"]
        text = f"You have said {len(said)} things, the first was {said[0]!r}"
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))


async def main(url: str) -> None:
    clerk = LlmAgent(name="clerk", model=Scripted(model="scripted"))
    # before: service = DatabaseSessionService("sqlite+aiosqlite:///app.db")
    service = UnifiedSessionService(url)
    async with service:
        runner = Runner(app_name="shop", agent=clerk, session_service=service, auto_create_session=True)
        for text in ("Two rye loaves, please", "And milk"):
            message = types.Content(role="user", parts=[types.Part(text=text)])
            async for event in runner.run_async(user_id="ann", session_id="ann-1", new_message=message):
                print(event.content.parts[0].text)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
