"""The blueprint that every page hangs in."""

from flask import Blueprint

pages = Blueprint("pages", __name__)
