"""Command ``bandits mcp``: tools for an agent that runs on this machine."""

import click

from bandits.errors import InvalidInput


@click.command()
@click.option(
    "--url",
    envvar="BANDITS_URL",
    show_envvar=True,
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Where the server is.",
)
@click.option(
    "--key",
    envvar="BANDITS_API_KEY",
    show_envvar=True,
    required=True,
    help="An API key with the scope read, and propose if versions may be proposed.",
)
def mcp(url: str, key: str) -> None:
    """Offer campaigns to an agent by the Model Context Protocol, over standard input and output.

    It reads campaigns, results and receipts, and simulates plans. A version that it proposes waits
    in a draft until a person approves it in the pages. Needs the extra mcp.
    """
    try:
        from webapp.agent_tools.campaign_tools import CampaignTools  # noqa: PLC0415 - an extra
        from webapp.agent_tools.mcp_server import make_server  # noqa: PLC0415 - an extra
    except ImportError:
        words = "MCP needs its library: pip install 'email-bandits[mcp]'"
        raise InvalidInput.at("", words) from None
    make_server(CampaignTools(url, key)).run("stdio")
