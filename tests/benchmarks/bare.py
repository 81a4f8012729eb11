"""Bare Flask views that answer given bytes or redirect, on the same server: what that costs."""

import sys
from functools import partial

from flask import Flask, Response
from granian import Granian
from granian.constants import Interfaces

from webapp.server import Address, reserve
from webapp.worker import set_batch_scheduling

THREADS = 64  # as many as the product's server has


def load(answer: bytes) -> Flask:
    """Make an application of two views: one answers, one redirects."""
    set_batch_scheduling()
    app = Flask("bare")

    @app.post("/choose")
    def choose() -> Response:
        return Response(answer, 201, content_type="application/json")

    @app.get("/t/<token>")
    def lead_on(token: str) -> Response:
        return Response(status=302, headers={"Location": "https://shop.example/sale"})

    return app


def main(answer: str) -> None:
    """Serve until told to stop; says on standard error where."""
    with reserve(Address("127.0.0.1", 0)) as bound:
        server = Granian(
            "bare", bound.host, bound.port, interface=Interfaces.WSGI, blocking_threads=THREADS
        )
        server.on_startup(lambda: sys.stderr.write(f"{bound}\n"))
        server.serve(target_loader=partial(load, answer.encode()), wrap_loader=False)


if __name__ == "__main__":
    main(sys.argv[1])
