"""`bandits mcp` as an agent's host starts it: a process that speaks over its streams."""

import asyncio
import json

from mcp import Client, StdioServerParameters

from tests.e2e.conftest import BANDITS, environment
from tests.patience import LIMIT_SECONDS
from webapp.api.experiments import EXAMPLE


def test_mcp_command_answers_an_agent_over_its_streams(server, api) -> None:
    key = "read-by-agents"
    assert api.post("/api/v1/experiments", json=EXAMPLE | {"key": key}).status_code == 201
    settings = environment(BANDITS_URL=server.url, BANDITS_API_KEY=server.token)
    command = StdioServerParameters(command=str(BANDITS), args=["mcp"], env=settings)

    async def ask():
        async with Client(command, read_timeout_seconds=LIMIT_SECONDS) as client:
            return await client.call_tool("list_campaigns")

    answer = asyncio.run(ask())
    listed = json.loads(answer.content[0].text)["campaigns"]
    assert key in [campaign["key"] for campaign in listed]
