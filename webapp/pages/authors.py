"""Who changed something, as people know them: a key by its name, not by its number."""

from flask import g

from webapp.pages.blueprint import pages
from webapp.services import services


@pages.app_template_filter()
def author(by: str) -> str:
    """Name the author of an entry of the audit log."""
    if "key_names" not in g:
        g.key_names = {f"key:{key.id}": key.name for key in services().accounts.keys.all()}
    name = g.key_names.get(by)
    return by if name is None else f"the API key “{name}”"
