"""Named mail worlds: those that the rules were made with, and others that were held out.

Who looks at emails, and how, differs by sender and by year. The held-out worlds have other figures
in every respect, and `BEYOND` has machines that cannot be told from people by what is reported.
"""

import numpy as np
from msgspec.structs import replace
from numpy.random import Generator

from simulations.mail.mail_world import MailScanner, MailWorld

# Follows links with a browser's name, and checks some of those that people follow.
_SAFE_LINKS = MailScanner(guards=0.006, networks=24, checks=0.3)
# Says its name, asks for heads first, takes a second for each link (mautic, issue 9798).
_NAMED_GATEWAY = MailScanner(
    guards=0.003, networks=8, median_seconds=8.0, gap_seconds=1.0, named=0.9, heads=0.5, single=0.0
)
# Rewrites links and looks at most of those that people follow; now and then at one beforehand.
_REWRITER = MailScanner(
    guards=0.003, networks=12, scans=0.5, follows=0.6, single=0.3, checks=0.6, images=0.3
)
# A company's own, at the address that its people have.
_APPLIANCE = MailScanner(guards=0.001, networks=0, median_seconds=20.0, named=0.3, images=0.2)

NEWSLETTER = MailWorld((_SAFE_LINKS, _NAMED_GATEWAY))
BUSINESS = MailWorld(
    (replace(_SAFE_LINKS, guards=0.008), _NAMED_GATEWAY, _REWRITER, _APPLIANCE),
    companies=0.8,
    company_size=40.0,
    apple=0.3,
    links=10,
)
OWN_LINKS = MailWorld(
    (_SAFE_LINKS, _NAMED_GATEWAY, _REWRITER),
    honeypot=True,
    heads_seen=True,
    whole_seconds=False,
    report_seconds=0.0,
    flags=0.0,
)

DEVELOPMENT = {"newsletter": NEWSLETTER, "business": BUSINESS, "own links": OWN_LINKS}

HELD_OUT = {
    # One email at a time over days, so that no network is busy.
    "one by one": replace(NEWSLETTER, send_seconds=3 * 86_400.0, links=5),
    # Scans minutes after delivery, two seconds a link, half of the links, no images.
    "slow scanners": MailWorld(
        (
            MailScanner(
                guards=0.006, networks=60, median_seconds=150.0, sigma=1.2, gap_seconds=2.0
            ),
            MailScanner(
                guards=0.004, networks=5, median_seconds=70.0, follows=0.5, unsubscribes=0.1
            ),
        ),
        links=12,
        transit_seconds=30.0,
        delivery_known=False,
    ),
    # People who wait for the email, nearly all behind a few carriers.
    "quick readers": replace(
        NEWSLETTER,
        median_hours=0.5,
        sigma=1.8,
        shared=0.9,
        shared_networks=12,
        send_seconds=120.0,
        second_links=0.3,
        link_seconds=6.0,
    ),
    # Whole companies behind one address, which their own appliances scan from, too.
    "company proxies": replace(
        BUSINESS,
        scanners=(
            MailScanner(guards=0.004, networks=0, median_seconds=15.0, images=0.9),
            MailScanner(
                guards=0.006, networks=40, median_seconds=60.0, checks=0.8, checks_after=0.5
            ),
        ),
        companies=0.95,
        company_size=400.0,
    ),
    # Two links, none of which unsubscribes.
    "two links": replace(NEWSLETTER, links=2, unsubscribe=False),
    # A sender that reports late and in batches, flags nothing and takes heads for clicks.
    "poor reports": replace(
        BUSINESS, report_seconds=600.0, flags=0.0, delivery_known=False, apple_heads=0.01
    ),
    # Few scans: 10 to 30 % of all requests for links, not of the emails clicked.
    "few scans": replace(
        NEWSLETTER, scanners=(MailScanner(guards=0.001, networks=24, sigma=1.0),), links=10
    ),
    # Of six emails with a click, machines clicked five.
    "mostly machines": replace(
        BUSINESS,
        scanners=(
            MailScanner(guards=0.15, networks=200, follows=0.8, checks=0.5),
            MailScanner(guards=0.05, networks=30, gap_seconds=0.5, single=0.1),
        ),
    ),
}

BEYOND = {
    # One link at a person's hour, from a home, with a browser's name.
    "mimics": replace(NEWSLETTER, mimics=0.004),
    # One link of each email, from networks that follow no other.
    "single links": replace(
        NEWSLETTER,
        scanners=(MailScanner(guards=0.008, networks=24, single=1.0, sigma=1.0, rescans=0.0),),
    ),
}

WORLDS = DEVELOPMENT | HELD_OUT | BEYOND


def draw_world(rng: Generator) -> MailWorld:
    """Draw a world whose every figure is random, wherever it may lie between the published ones.

    Machines do nothing that cannot be told: they follow several links where there are several, but
    for a part of the scans, and people take at least half an hour in the median.
    """

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def share(most: float) -> float:
        return float(rng.uniform(0, most))

    def happens(chance: float) -> bool:
        return bool(rng.random() < chance)

    scanners = tuple(
        MailScanner(
            guards=between(0.0005, 0.02),
            networks=int(rng.choice([0, *range(1, 101)], p=[0.1, *[0.009] * 100])),
            scans=rng.uniform(0.3, 1),
            median_seconds=between(4, 150),
            sigma=rng.uniform(0.3, 1.2),
            gap_seconds=between(0.01, 2),
            follows=rng.uniform(0.5, 1),
            single=share(0.3),
            unsubscribes=share(1),
            honeypots=share(1),
            images=share(1),
            images_seconds=between(1, 100),
            named=float(rng.choice([0, 0, rng.uniform(0, 1)])),
            heads=float(rng.choice([0, 0, rng.uniform(0, 1)])),
            checks=share(0.8),
            checks_after=share(0.5),
            checks_all=share(0.3),
            rescans=share(0.05),
        )
        for _ in range(rng.integers(1, 6))
    )
    return MailWorld(
        scanners,
        links=int(rng.integers(4, 25)),
        unsubscribe=happens(0.8),
        honeypot=happens(0.3),
        send_seconds=between(60, 3 * 86_400),
        whole_seconds=happens(0.7),
        delivery_known=happens(0.7),
        transit_seconds=between(1, 60),
        heads_seen=happens(0.3),
        flags=float(rng.choice([0, rng.uniform(0.5, 1)])),
        report_seconds=between(0.1, 1000),
        reads=rng.uniform(0.05, 0.4),
        median_hours=between(0.5, 12),
        sigma=rng.uniform(1, 2.2),
        second_links=share(0.3),
        third_links=share(0.3),
        link_seconds=between(5, 60),
        repeats=share(0.2),
        unsubscribers=share(0.02),
        forwards=share(0.05),
        shared=share(0.9),
        shared_networks=int(between(10, 1000)),
        companies=share(0.9),
        company_size=between(2, 500),
        apple=rng.uniform(0.1, 0.5),
        gmail=rng.uniform(0, 0.5),
        apple_soon=share(1),
        apple_minutes=between(2, 200),
        apple_heads=share(0.01),
        blocks_images=share(0.5),
    )
