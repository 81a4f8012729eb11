"""The pages that people see: server-rendered, working without script and better with it.

``init(app)`` adds the blueprint `pages` and what it needs of an application: sessions, protection
against forged forms, headers, filters and pages for errors.
"""

from webapp.pages.application import init
from webapp.pages.blueprint import pages

__all__ = ["init", "pages"]
