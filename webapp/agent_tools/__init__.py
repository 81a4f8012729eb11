"""Tools for agents: what a language model may read of campaigns, and propose.

`campaign_tools` asks a server's API; `mcp_server` offers that by the Model Context Protocol.
"""
