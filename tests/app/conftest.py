"""The app in a browser."""

from browser import browser

__all__ = ["browser"]
