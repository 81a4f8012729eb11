"""Mail world: the figures that a labelled log of opens and clicks is drawn from.

Each default says why it is what it is. Figures that nobody has published are marked as a guess, and
worlds that differ in them are in `simulations.mail.worlds`.
"""

from typing import Annotated

from msgspec import Meta

from bandits.policy import Parameters

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Count = Annotated[int, Meta(ge=0, le=100_000)]


class MailScanner(Parameters, frozen=True):
    """A service that looks at emails for a share of all recipients.

    Times of scans at delivery are log-normal. The defaults are what an owner found in the log of a
    sender: 836 sweeps of nine to ten links, 3 % of which began within 20 seconds, 69 % within a
    minute and 97 % within five, 33 seconds after their image, each done within a second
    (putyourlightson/craft-campaign, issue 546).
    """

    guards: Annotated[Share, Meta(description="share of recipients whose emails it looks at")]
    networks: Annotated[
        Count, Meta(description="its networks; 0 where it is the company's own, at its address")
    ] = 24  # a guess: a fleet in several places
    scans: Annotated[Share, Meta(description="chance that an email is scanned at delivery")] = 1.0
    median_seconds: Annotated[Seconds, Meta(description="median time of that scan")] = 43.0
    sigma: Annotated[float, Meta(ge=0, le=5, description="its spread, of the logarithm")] = 0.8
    gap_seconds: Annotated[Seconds, Meta(description="mean time between two links of a scan")] = (
        0.05  # "a few milliseconds" (MillionSend, pull request 22); others take a second a link
    )
    follows: Annotated[Share, Meta(description="chance that a link is among those followed")] = 0.95
    single: Annotated[
        Share, Meta(description="part of the scans that follow one link and no other")
    ] = 0.2  # "the rest were single-link hits from the same fleet" (MillionSend, pull request 22)
    unsubscribes: Annotated[
        Share, Meta(description="chance that the unsubscribe link is among them")
    ] = 0.8  # a guess: known to happen (suped.com on Safe Links), and some leave it out
    honeypots: Annotated[Share, Meta(description="chance that a hidden link is among them")] = (
        0.9  # a hidden link found 90 % of such sweeps (mautic, issue 9798)
    )
    images: Annotated[Share, Meta(description="chance that a scan shows the images first")] = 0.95
    images_seconds: Annotated[Seconds, Meta(description="mean time from there to the links")] = 33.0
    named: Annotated[
        Share, Meta(description="part of the scans whose program gives its own name")
    ] = 0.0  # Safe Links has the name of a browser
    heads: Annotated[Share, Meta(description="chance that a link's head is asked for before")] = 0.0
    checks: Annotated[
        Share, Meta(description="chance that a link is looked at when a person follows it")
    ] = 0.0
    checks_after: Annotated[
        Share, Meta(description="part of these looks that come after the person's click")
    ] = 0.1  # one was 12 s after (resend-node, issue 901); a redirect waits for the others
    checks_all: Annotated[Share, Meta(description="part of these looks that follow all links")] = (
        0.1  # a guess: the whole email is looked at once more
    )
    rescans: Annotated[
        Share, Meta(description="chance that a scanned email is scanned again, hours later")
    ] = 0.02  # 1 to 3 % of the sweeps began after five minutes


class MailWorld(Parameters, frozen=True):
    """Emails, recipients, their mailboxes, and the scanners in front of these."""

    scanners: Annotated[tuple[MailScanner, ...], Meta(description="one or none guards a mailbox")]
    # The email.
    links: Annotated[
        int, Meta(ge=1, le=200, description="different links, the unsubscribe link not counted")
    ] = 8  # newsletters have five to ten
    unsubscribe: Annotated[bool, Meta(description="the unsubscribe link is tracked")] = True
    honeypot: Annotated[bool, Meta(description="there is a link that nobody sees")] = False
    send_seconds: Annotated[
        Seconds, Meta(description="time over which the emails are delivered, evenly")
    ] = 1800.0
    # What the sender reports.
    whole_seconds: Annotated[bool, Meta(description="times are cut to seconds")] = (
        True  # as SendGrid and Mandrill do
    )
    delivery_known: Annotated[
        bool, Meta(description="delivery is reported; else time counts from sending")
    ] = True
    transit_seconds: Annotated[
        Seconds, Meta(description="median time from sending to delivery")
    ] = 5.0  # a guess; the queue, the handshake and the other server
    heads_seen: Annotated[
        bool, Meta(description="requests for a head are seen as such; else they are clicks")
    ] = False  # no sender reports the method of a request
    flags: Annotated[
        Share, Meta(description="part of the prefetched opens that the sender flags")
    ] = 0.9  # SendGrid and Brevo do; two owners found about so many
    report_seconds: Annotated[Seconds, Meta(description="mean time until an event is reported")] = (
        30.0  # SendGrid posts every 30 s
    )
    # People.
    reads: Annotated[
        Share, Meta(description="part of the recipients who read the email without a click")
    ] = 0.2  # open rates before prefetching
    median_hours: Annotated[float, Meta(gt=0, le=1000, description="median time until they do")] = (
        3.4  # 27 % within an hour and 61 % within six (corp.inntopia.com, 4 million emails)
    )
    sigma: Annotated[float, Meta(ge=0, le=5, description="its spread, of the logarithm")] = 2.0
    second_links: Annotated[
        Share, Meta(description="part of those who click that follow another link")
    ] = 0.15  # a guess
    third_links: Annotated[Share, Meta(description="part of these that follow a third one")] = 0.2
    link_seconds: Annotated[
        Seconds, Meta(description="median time from link to link, log-normal with sigma 1")
    ] = 12.0  # tabs opened one after the other in 2 s, or the page read first
    repeats: Annotated[Share, Meta(description="part of clicks that are done twice")] = 0.1
    unsubscribers: Annotated[
        Share, Meta(description="part of the readers who follow the unsubscribe link")
    ] = 0.005
    forwards: Annotated[
        Share, Meta(description="part of those who click whose email somebody else clicks, too")
    ] = 0.01
    shared: Annotated[
        Share, Meta(description="part of private readers whose address many share")
    ] = 0.4  # mobile carriers, private relays
    shared_networks: Annotated[int, Meta(ge=1, le=100_000, description="their networks")] = 150
    # Mailboxes.
    companies: Annotated[
        Share, Meta(description="part of the recipients at a company, with one address for all")
    ] = 0.3
    company_size: Annotated[
        float, Meta(ge=1, le=100_000, description="mean number of recipients at one; exponential")
    ] = 20.0
    apple: Annotated[
        Share, Meta(description="part of the recipients whose mail program prefetches images")
    ] = 0.2  # so that 50 to 60 % of opens are prefetched, as reported (59 % by Litmus, 2023)
    gmail: Annotated[
        Share, Meta(description="part whose images come by a proxy when the email is opened")
    ] = 0.3
    apple_soon: Annotated[
        Share, Meta(description="part of the prefetches that come soon; others come at any hour")
    ] = 0.7  # with power and Wi-Fi, when the mail program runs (SocketLabs)
    apple_minutes: Annotated[
        float, Meta(gt=0, le=1e5, description="their median; sigma is 1.5")
    ] = 20.0
    apple_networks: Annotated[int, Meta(ge=1, le=100_000, description="its proxies")] = 40
    apple_heads: Annotated[
        Share, Meta(description="part of these programs that ask for the heads of links")
    ] = 0.002  # said of Apple Mail 16 by one site only
    blocks_images: Annotated[
        Share, Meta(description="part of all others whose images are never loaded")
    ] = 0.15
    programs: Annotated[
        Share, Meta(description="part of readers at companies whose mail program says its name")
    ] = 0.5  # a guess: Outlook on the desktop
    # Machines that cannot be told.
    mimics: Annotated[
        Share,
        Meta(description="emails with a click of one link, at a person's hour, from a home"),
    ] = 0.0
