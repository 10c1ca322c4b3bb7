"""Pages made from the code while the site is built: the command line, the configuration."""

from __future__ import annotations

from typing import Any


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fills in `<!-- cli -->` and `<!-- configuration -->`."""
    if page.file.src_uri == "cli.md":
        return markdown.replace("<!-- cli -->", _command_line())
    if page.file.src_uri == "configuration.md":
        return markdown.replace("<!-- configuration -->", _configuration())
    return markdown


def _command_line() -> str:
    import typer.main
    from typer.cli import get_docs_for_click

    from fli2moe.cli import app

    command = typer.main.get_command(app)
    context = command.make_context("fli2moe", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="fli2moe")
    return text.split("\n", 1)[1]  # the page has a heading of its own


def _configuration() -> str:
    from fli2moe.config import Config

    parts = []
    for name, field in Config.model_fields.items():
        fields = getattr(field.annotation, "model_fields", None)
        if fields is None:
            parts.append(f"| `{name}` | `{_default(field)}` | {_text(field.description)} |")
    rows = ["| key | default | |", "|---|---|---|", *parts]
    for name, field in Config.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            rows += ["", f"## {name}", "", *_section(field.annotation)]
    return "\n".join(rows)


def _section(model: Any, prefix: str = "") -> list[str]:
    rows = [] if prefix else ["| key | default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        shown = f"{prefix}{name}"
        if inner is None:
            rows.append(f"| `{shown}` | `{_default(field)}` | {_text(field.description)} |")
        else:
            many = ".NAME" if "dict" in str(field.annotation) else ""
            rows += _section(inner, f"{shown}{many}.")
    return rows


def _model_in(annotation: Any) -> Any:
    for found in (annotation, *getattr(annotation, "__args__", ())):
        if hasattr(found, "model_fields"):
            return found
    return None


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _text(text: str | None) -> str:
    return (text or "").replace("|", "\\|")
