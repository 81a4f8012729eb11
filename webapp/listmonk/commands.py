"""Commands ``bandits listmonk``: choices as attributes of subscribers, without a messenger."""

import os
import time
from typing import Any

import click

from bandits.actors import actor_of
from bandits.cli import NumberRange
from bandits.engine import Engine
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request
from storage.settings import database_option
from webapp.egress import EgressGuard
from webapp.listmonk.listmonk_api import ListmonkApi, ListmonkUnavailable, Subscriber
from webapp.listmonk.postback import message_id
from webapp.listmonk.subscribers import context_of, subject_id_of
from webapp.webhooks.commands import opened_store

_ATTRIBUTE = "bandits"


@click.group()
def listmonk() -> None:
    """Choose for subscribers of listmonk.

    The messenger and the pulling of clicks need no command: the server does both.
    """


@listmonk.command("push")
@database_option
@click.option("--connection", "connection_key", metavar="KEY", required=True, help="with the API")
@click.option("--list", "list_id", type=NumberRange(min=1), required=True, help="number of a list")
@click.option(
    "--campaign", metavar="UUID", required=True, help="uuid of the campaign, so that clicks match"
)
@click.argument("experiment")
def push_command(
    *, database: str, connection_key: str, list_id: int, campaign: str, experiment: str
) -> None:
    """Choose for the subscribers of a list, and write it into their attributes.

    A template reads them as ``.Subscriber.Attribs.bandits.EXPERIMENT.SLOT``: the text of a subject
    line, else the variant's key. Doing it again changes nothing.
    """
    with opened_store(database) as store:
        engine = Engine(store)
        connection, secrets = store.connections.open(connection_key, at=time.time())
        url = connection.fields.get("api_url")
        if connection.kind != "listmonk" or not url:
            raise click.UsageError(f"{connection_key} is no connection with listmonk's address")
        declared = store.experiments.record(experiment).configuration.experiment
        actor = actor_of("connection", connection.key)
        guard = EgressGuard(os.environ.get("BANDITS_EGRESS_NETWORKS", ""))
        user, token = connection.fields.get("api_user", ""), secrets.current.get("api_token", "")
        pushed = 0
        try:
            with ListmonkApi(guard, url, user, token) as api:
                for page in api.subscribers(list_id):
                    requests = [
                        Request(
                            subject_id_of(connection, s.uuid, s.email, s.attribs),
                            context_of(declared, s.attribs),
                            message_id(campaign, s.uuid),
                        )
                        for s in page
                    ]
                    answer = engine.choose_partial(experiment, requests, actor=actor)
                    for subscriber, decision in zip(page, answer.decisions, strict=True):
                        if decision is None:  # chosen before under other attributes: it stays
                            continue
                        api.set_attributes(subscriber, _attributes(declared, subscriber, decision))
                        pushed += 1
        except (OSError, ListmonkUnavailable) as error:
            raise InvalidInput.at("api_url", f"{error}; {pushed:,} subscribers are done") from None
    click.echo(f"chose for {pushed:,} subscribers", err=True)


def _attributes(
    experiment: Experiment, subscriber: Subscriber, decision: Decision
) -> dict[str, Any]:
    """Return the attributes of a subscriber with a decision, those of other campaigns kept."""
    own: dict[str, Any] = {"decision": decision.decision_id}
    for slot, choice in decision.slots.items():
        text = choice.get("payload", {}).get("text")
        own[slot] = text if isinstance(text, str) else choice["variant"]
    before = (subscriber.attribs or {}).get(_ATTRIBUTE)
    kept = before if isinstance(before, dict) else {}
    return {_ATTRIBUTE: {**kept, experiment.key: own}}
