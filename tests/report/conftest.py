"""The report in a browser: its fixtures stand in `browser`, beside the app's."""

from browser import browser, visit

__all__ = ["browser", "visit"]
