"""The styles that pages ask for."""

import re
from importlib.resources import files


def test_every_page_asks_for_every_style_that_is_shipped(site, viewer):
    static = files("webapp") / "static"
    folders = (static, static / "styles")
    shipped = {e.name for f in folders for e in f.iterdir() if e.name.endswith(".css")}
    for page in (viewer.get("/"), site.visitor().get("/sign-in")):
        addresses = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        assert {address.rsplit("/", 1)[1] for address in addresses} == shipped
        assert addresses[0].endswith("tokens.css"), "others build upon the tokens"
        assert {viewer.get(address, buffered=True).status_code for address in addresses} == {200}
