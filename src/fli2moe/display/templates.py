"""Pages from templates, with everything from data escaped."""

from __future__ import annotations

import jinja2
from markupsafe import Markup


class Templates:
    """The folder `templates` of a package: pages, and our own files that go into them."""

    def __init__(self, package: str) -> None:
        self._loader = jinja2.PackageLoader(package)
        self._environment = jinja2.Environment(
            loader=self._loader,
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def raw(self, name: str) -> Markup:
        """Returns a file of ours, not data."""
        return Markup(self._loader.get_source(self._environment, name)[0])

    def render(self, name: str, **values: object) -> str:
        """Returns a page."""
        return self._environment.get_template(name).render(**values)
