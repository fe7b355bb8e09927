"""Postkeep: an all-in-one groupware mail server."""

__version__ = "0.1.0"
