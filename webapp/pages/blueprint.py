"""The blueprint that every page hangs in."""

from flask import Blueprint

from webapp.pages.access import gate

pages = Blueprint("pages", __name__)
pages.before_request(gate)
