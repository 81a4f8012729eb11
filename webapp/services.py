"""What the views work with, reached through the running application."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from flask import current_app

from bandits.engine import Engine
from storage.accounts import AccountStore
from storage.drafts import DraftTable

_NAME = "bandits"


@dataclass(frozen=True, slots=True)
class Services:
    """The engine, the accounts and the drafts of one application."""

    engine: Engine
    accounts: AccountStore
    drafts: DraftTable

    def attach(self, extensions: dict[str, object]) -> None:
        """Hand them to an application's extensions."""
        extensions[_NAME] = self


def services() -> Services:
    """Return the running application's services."""
    return of_extensions(current_app.extensions)


def of_extensions(extensions: Mapping[str, object]) -> Services:
    """Return the services of the application whose extensions these are."""
    return cast("Services", extensions[_NAME])
