"""What the views work with, reached through the running application."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from bandits.engine import Engine
from storage.accounts import Accounts

_NAME = "bandits"


@dataclass(frozen=True, slots=True)
class Services:
    """The engine and the accounts of one application."""

    engine: Engine
    accounts: Accounts

    def attach(self, extensions: dict[str, object]) -> None:
        """Hand them to an application's extensions."""
        extensions[_NAME] = self


def services() -> Services:
    """Return the running application's services."""
    return cast("Services", current_app.extensions[_NAME])
