"""Mail log: opens and clicks of a send, each labelled with who made it."""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.machines import AgentClass, EventKind, TrackedEvents
from simulations.mail.mail_world import MailScanner, MailWorld

_DAY = 86_400.0
_POINTING_SECONDS = 0.5  # a person's fastest from link to link, by touch
_REACTION_SECONDS = 8.0  # a person's fastest: the message shows, is opened, read and followed
# Numbers of networks, far enough apart; a home has that of its recipient.
_HOMES, _SHARED, _COMPANIES, _SCANNERS, _APPLE, _GOOGLE = (k * 10**9 for k in range(1, 7))
_GOOGLE_NETWORKS = 20


class MailLog(Struct, frozen=True, eq=False):
    """Log of a send to N recipients.

    Attributes:
        events: n opens and clicks; an email's number is its recipient's.
        by_machine: (n,) bool, the truth.
        clicked: (N,) bool, recipients who clicked themselves.
    """

    events: TrackedEvents
    by_machine: BoolArray
    clicked: BoolArray


class _EventDraft:
    """Events as they are drawn, in columns; what is not given is 0."""

    _COLUMNS = (
        *("emails", "kinds", "times", "links", "networks", "agents", "by_machine"),
        *("flagged", "head", "honeypot", "unsubscribe"),
    )

    def __init__(self) -> None:
        self._parts: list[dict[str, AnyArray]] = []

    def add(self, emails: IntArray, **columns: Any) -> None:
        """Add events of emails (n,), each column (n,) or the same for all."""
        n = len(emails)
        self._parts.append(
            {c: np.broadcast_to(columns.get(c, 0), n) for c in self._COLUMNS} | {"emails": emails}
        )

    def column(self, name: str) -> AnyArray:
        """Return a column of all events."""
        return np.concatenate([part[name] for part in self._parts])


class _Recipients(Struct, frozen=True, eq=False):
    """N recipients.

    Attributes:
        sent_at: (N,) seconds since the send began.
        delivered_at: (N,) likewise.
        companies: (N,) int, the number of the company, −1 at home.
        networks: (N,) int, the network that the recipient's own clicks come from.
        apple: (N,) bool, images are prefetched.
        gmail: (N,) bool, images come by a proxy.
        scanners: (N,) int, which scanner guards the mailbox, −1 none.
    """

    sent_at: FloatArray
    delivered_at: FloatArray
    companies: IntArray
    networks: IntArray
    apple: BoolArray
    gmail: BoolArray
    scanners: IntArray

    def __len__(self) -> int:
        return len(self.sent_at)


class _FirstClicks(Struct, frozen=True, eq=False):
    """First clicks of people, (m,) each."""

    emails: IntArray
    times: FloatArray
    links: IntArray


def draw_mail_log(
    world: MailWorld, clicks: BoolArray, rng: Generator, *, start: float = 0.0
) -> MailLog:
    """Draw the log of one send.

    Args:
        world: its figures.
        clicks: (N,) bool, recipients who will click.
        rng: randomness.
        start: seconds since 1970 at which the send begins.
    """
    recipients = _draw_recipients(world, len(clicks), rng)
    draft = _EventDraft()
    people = _draw_people(draft, world, recipients, clicks, rng)
    _draw_prefetches(draft, world, recipients, rng)
    for number, scanner in enumerate(world.scanners):
        fleet = _Fleet(number, scanner, world, recipients, rng)
        _draw_scans(draft, fleet)
        _draw_checks(draft, fleet, people)
    _draw_forwards(draft, world, recipients, people, rng)
    _draw_mimics(draft, world, recipients, rng)
    return _finish(draft, world, recipients, clicks, rng, start)


def _log_normal(median: float, sigma: float, n: int, rng: Generator) -> FloatArray:
    return median * np.exp(sigma * rng.standard_normal(n))


def _draw_recipients(world: MailWorld, n: int, rng: Generator) -> _Recipients:
    delivered_at = rng.random(n) * world.send_seconds
    sent_at = delivered_at - _log_normal(world.transit_seconds, 1.0, n, rng)
    sizes = np.ceil(rng.exponential(world.company_size, n + 1)).astype(np.int64)
    company_of_place = np.repeat(np.arange(n + 1), sizes)  # recipients of a company are neighbours
    at_company = rng.random(n) < world.companies
    companies = np.full(n, -1)
    companies[rng.permutation(np.flatnonzero(at_company))] = company_of_place[: at_company.sum()]
    networks = _HOMES + np.arange(n)
    shared = rng.random(n) < world.shared
    networks[shared] = _SHARED + rng.integers(world.shared_networks, size=shared.sum())
    networks = np.where(at_company, _COMPANIES + companies, networks)
    provider = rng.random(n)
    apple = provider < world.apple
    gmail = ~apple & (provider < world.apple + world.gmail)
    draws = np.where(at_company, rng.random(n + 1)[companies], rng.random(n))
    return _Recipients(
        sent_at,
        delivered_at,
        companies,
        networks,
        apple,
        gmail,
        _guards(world, at_company, draws),
    )


def _guards(world: MailWorld, at_company: BoolArray, draws: FloatArray) -> IntArray:
    """Assign scanners by uniforms, which all recipients of a company share."""
    scanners = np.full(len(draws), -1)
    low = np.zeros(len(draws))
    for number, scanner in enumerate(world.scanners):
        if scanner.networks:
            share = np.full(len(draws), scanner.guards)
        else:  # a company's own, so that at companies it is the more frequent
            share = at_company * scanner.guards / max(world.companies, 1e-9)
        scanners[(low <= draws) & (draws < low + share)] = number
        low += share
    return scanners


def _draw_people(
    draft: _EventDraft,
    world: MailWorld,
    recipients: _Recipients,
    clicks: BoolArray,
    rng: Generator,
) -> _FirstClicks:
    """Draw opens and clicks of people; return their first clicks."""
    n = len(clicks)
    delays = np.maximum(_log_normal(3600 * world.median_hours, world.sigma, n, rng), 0)
    at = recipients.delivered_at + _REACTION_SECONDS + delays
    reads = clicks | (rng.random(n) < world.reads)
    _draw_opens(draft, world, recipients, np.flatnonzero(reads), at, rng)
    emails = np.flatnonzero(clicks)
    own = {"kinds": EventKind.CLICK, "agents": AgentClass.BROWSER}

    def follow(emails: IntArray, times: FloatArray, links: IntArray) -> None:
        draft.add(emails, times=times, links=links, networks=recipients.networks[emails], **own)

    # The first links are the largest; 40 % of clicks are on the first.
    links = np.minimum(rng.geometric(0.4, len(emails)), world.links)
    first = _FirstClicks(emails, at[emails], links)
    follow(emails, first.times, links)
    again = rng.random(len(emails)) < world.repeats
    follow(emails[again], first.times[again] + _log_normal(3, 1, again.sum(), rng), links[again])
    times, further = first.times, np.full(len(emails), world.links > 1)
    for share in (world.second_links, world.third_links):
        further &= rng.random(len(emails)) < share
        times = times + _POINTING_SECONDS + _log_normal(world.link_seconds, 1.0, len(emails), rng)
        links = links % world.links + 1
        follow(emails[further], times[further], links[further])
    leaving = np.flatnonzero(reads & (rng.random(n) < world.unsubscribers))
    if world.unsubscribe:
        draft.add(
            leaving,
            times=at[leaving] + 20 + _log_normal(30, 1, len(leaving), rng),
            links=world.links + 1,
            networks=recipients.networks[leaving],
            unsubscribe=True,
            **own,
        )
    return first


def _draw_opens(  # noqa: PLR0913, PLR0917 - who opens when, and what it depends on
    draft: _EventDraft,
    world: MailWorld,
    recipients: _Recipients,
    emails: IntArray,
    at: FloatArray,
    rng: Generator,
) -> None:
    """Draw opens of people, some seconds before `at`; prefetched images are not fetched again."""
    loads = ~recipients.apple[emails] & (rng.random(len(emails)) >= world.blocks_images)
    emails = emails[loads]
    gmail = recipients.gmail[emails]
    proxies = _GOOGLE + rng.integers(_GOOGLE_NETWORKS, size=len(emails))
    programs = (recipients.companies[emails] >= 0) & (rng.random(len(emails)) < world.programs)
    agents = np.where(programs, AgentClass.PROGRAM, AgentClass.BROWSER)
    before = np.minimum(
        _log_normal(10, 1, len(emails), rng),
        at[emails] - recipients.delivered_at[emails] - _REACTION_SECONDS / 2,
    )
    draft.add(
        emails,
        kinds=EventKind.OPEN,
        times=at[emails] - before,
        networks=np.where(gmail, proxies, recipients.networks[emails]),
        agents=np.where(gmail, AgentClass.IMAGE_PROXY, agents),
    )


def _draw_prefetches(
    draft: _EventDraft, world: MailWorld, recipients: _Recipients, rng: Generator
) -> None:
    """Draw the prefetches of images, and the heads of links that some programs ask for."""
    emails = np.flatnonzero(recipients.apple)
    n = len(emails)
    soon = rng.random(n) < world.apple_soon
    quick = _log_normal(60 * world.apple_minutes, 1.5, n, rng)
    delays = np.where(soon, quick, rng.random(n) * _DAY)
    at = recipients.delivered_at[emails] + delays
    draft.add(
        emails,
        kinds=EventKind.OPEN,
        times=at,
        networks=_APPLE + rng.integers(world.apple_networks, size=n),
        agents=AgentClass.PRIVACY_PROXY,
        flagged=rng.random(n) < world.flags,
        by_machine=True,
    )
    asking = np.flatnonzero(rng.random(n) < world.apple_heads)
    rows = np.repeat(asking, world.links)
    draft.add(
        emails[rows],
        kinds=EventKind.CLICK,
        times=at[rows] + 60 * rng.random(len(rows)),
        links=np.tile(np.arange(1, world.links + 1), len(asking)),
        networks=recipients.networks[emails[rows]],
        agents=AgentClass.PROGRAM,
        head=True,
        by_machine=True,
    )


class _Fleet:
    """A scanner at work on the emails that it guards."""

    def __init__(
        self,
        number: int,
        scanner: MailScanner,
        world: MailWorld,
        recipients: _Recipients,
        rng: Generator,
    ) -> None:
        self.scanner, self.rng = scanner, rng
        self.recipients = recipients
        self.guarded = recipients.scanners == number
        self._world, self._first_network = world, _SCANNERS + 100_000 * number

    def networks(self, emails: IntArray) -> IntArray:
        """Draw the networks that its requests for emails come from."""
        if not self.scanner.networks:
            return self.recipients.networks[emails]
        return self._first_network + self.rng.integers(self.scanner.networks, size=len(emails))

    def agents(self, n: int) -> IntArray:
        """Draw the agents of n requests."""
        named = self.rng.random(n) < self.scanner.named
        return np.where(named, AgentClass.CRAWLER, AgentClass.BROWSER)

    def scan(self, draft: _EventDraft, emails: IntArray, begin: FloatArray) -> None:
        """Follow links of emails (m,) from times (m,) on."""
        scanner, world, rng, m = self.scanner, self._world, self.rng, len(emails)
        columns = {
            "networks": self.networks(emails),
            "agents": self.agents(m),
            "by_machine": np.ones(m, dtype=np.bool_),
        }
        images = rng.random(m) < scanner.images
        draft.add(
            emails[images],
            kinds=EventKind.OPEN,
            times=begin[images] - rng.exponential(scanner.images_seconds, images.sum()),
            **{name: column[images] for name, column in columns.items()},
        )
        links, chances = self._links()
        single, only = rng.random(m) < scanner.single, rng.integers(1, world.links + 1, m)
        followed = rng.random((m, len(links))) < chances
        followed = np.where(single[:, None], only[:, None] == links, followed)
        gaps = followed * rng.exponential(scanner.gap_seconds, followed.shape)
        rows, places = np.nonzero(followed)
        at, links = (begin[:, None] + np.cumsum(gaps, axis=1))[followed], links[places]
        clicks = {
            "kinds": EventKind.CLICK,
            "links": links,
            "unsubscribe": links == world.links + 1,
            "honeypot": links == world.links + 2,
            **{name: column[rows] for name, column in columns.items()},
        }
        draft.add(emails[rows], times=at, **clicks)
        heads = rng.random(len(rows)) < scanner.heads
        parts = {name: np.broadcast_to(part, len(rows))[heads] for name, part in clicks.items()}
        draft.add(emails[rows[heads]], times=at[heads] - 0.1, head=True, **parts)

    def _links(self) -> tuple[IntArray, FloatArray]:
        """Return the links of an email, and the chance that each is followed."""
        world, scanner = self._world, self.scanner
        chances = [scanner.follows] * world.links
        links = [*range(1, world.links + 1)]
        if world.unsubscribe:
            links.append(world.links + 1)
            chances.append(scanner.unsubscribes)
        if world.honeypot:
            links.append(world.links + 2)
            chances.append(scanner.honeypots)
        return np.array(links), np.array(chances)


def _draw_scans(draft: _EventDraft, fleet: _Fleet) -> None:
    """Draw scans at delivery, and those some hours later."""
    scanner, rng = fleet.scanner, fleet.rng
    emails = np.flatnonzero(fleet.guarded & (rng.random(len(fleet.guarded)) < scanner.scans))
    delivered_at = fleet.recipients.delivered_at
    delays = _log_normal(scanner.median_seconds, scanner.sigma, len(emails), rng)
    fleet.scan(draft, emails, delivered_at[emails] + delays)
    again = emails[rng.random(len(emails)) < scanner.rescans]
    fleet.scan(draft, again, delivered_at[again] + _log_normal(4 * 3600, 1, len(again), rng))


def _draw_checks(draft: _EventDraft, fleet: _Fleet, people: _FirstClicks) -> None:
    """Draw the looks at links that people follow."""
    scanner, rng = fleet.scanner, fleet.rng
    rows = fleet.guarded[people.emails] & (rng.random(len(people.emails)) < scanner.checks)
    emails = people.emails[rows]
    after = rng.random(len(emails)) < scanner.checks_after
    shift = np.where(after, rng.exponential(8, len(emails)), -rng.exponential(1, len(emails)))
    at = people.times[rows] + shift
    of_all = rng.random(len(emails)) < scanner.checks_all
    fleet.scan(draft, emails[of_all], at[of_all])
    draft.add(
        emails[~of_all],
        kinds=EventKind.CLICK,
        times=at[~of_all],
        links=people.links[rows][~of_all],
        networks=fleet.networks(emails[~of_all]),
        agents=fleet.agents(len(emails[~of_all])),
        by_machine=True,
    )


def _draw_forwards(
    draft: _EventDraft,
    world: MailWorld,
    recipients: _Recipients,
    people: _FirstClicks,
    rng: Generator,
) -> None:
    """Draw the click of somebody whom the email was forwarded to, and the scan before it."""
    rows = np.flatnonzero(rng.random(len(people.emails)) < world.forwards)
    emails = people.emails[rows]
    at = people.times[rows] + _log_normal(3600, 1, len(rows), rng)
    for number, scanner in enumerate(world.scanners):
        scanned = rng.random(len(rows)) < scanner.guards
        fleet = _Fleet(number, scanner, world, recipients, rng)
        fleet.scan(draft, emails[scanned], at[scanned])
    draft.add(
        emails,
        kinds=EventKind.CLICK,
        times=at + _log_normal(1800, 1, len(rows), rng),
        links=people.links[rows],
        networks=_HOMES + rng.integers(len(recipients), size=len(rows)),
        agents=AgentClass.BROWSER,
    )


def _draw_mimics(
    draft: _EventDraft, world: MailWorld, recipients: _Recipients, rng: Generator
) -> None:
    """Draw machines that do as a person does."""
    emails = np.flatnonzero(rng.random(len(recipients)) < world.mimics)
    delays = _log_normal(3600 * world.median_hours, world.sigma, len(emails), rng)
    draft.add(
        emails,
        kinds=EventKind.CLICK,
        times=recipients.delivered_at[emails] + _REACTION_SECONDS + delays,
        links=np.minimum(rng.geometric(0.4, len(emails)), world.links),
        networks=_HOMES + rng.integers(len(recipients), size=len(emails)),
        agents=AgentClass.BROWSER,
        by_machine=True,
    )


def _finish(  # noqa: PLR0913, PLR0917 - all that was drawn
    draft: _EventDraft,
    world: MailWorld,
    recipients: _Recipients,
    clicks: BoolArray,
    rng: Generator,
    start: float,
) -> MailLog:
    """Make the log of what was drawn, as the sender reports it."""
    emails = draft.column("emails")
    since = recipients.delivered_at if world.delivery_known else recipients.sent_at
    times, since_times = start + draft.column("times"), start + since[emails]
    if world.whole_seconds:
        times, since_times = np.floor(times), np.floor(since_times)
    head = draft.column("head").astype(np.bool_)
    events = TrackedEvents(
        emails,
        draft.column("kinds").astype(np.int64),
        times,
        times + rng.exponential(world.report_seconds, len(times)),
        times - since_times,
        draft.column("links").astype(np.int64),
        draft.column("networks").astype(np.int64),
        draft.column("agents").astype(np.int64),
        draft.column("flagged").astype(np.bool_),
        head & world.heads_seen,
        draft.column("honeypot").astype(np.bool_),
        draft.column("unsubscribe").astype(np.bool_),
    )
    return MailLog(events, draft.column("by_machine").astype(np.bool_), clicks)
