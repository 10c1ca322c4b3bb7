"""The server of the local page."""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fli2moe import __version__, report
from fli2moe.data.sample import Sample
from fli2moe.display.templates import Templates
from fli2moe.errors import InputError, MachineError, one_line
from fli2moe.features import Progress
from fli2moe.predictor import Predictor

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

HOST = "127.0.0.1"
MOST_BYTES = 32 * 2**20  # of a request
MOST_CHARACTERS = 100_000  # of a text
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
    "img-src blob: data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def serve(predictor: Predictor, *, port: int = 7860, budget: int | None = None) -> None:
    """Serves the page of a model on `http://127.0.0.1:port` until interrupted.

    Args:
        predictor: the model.
        port: 0 takes a free one.
        budget: model evaluations of an explanation; the config's by default.

    Raises:
        MachineError: when the extra is not installed, or the port is taken.
    """
    app = make_app(predictor, budget=budget)
    import uvicorn

    config = uvicorn.Config(app, log_level="error", server_header=False)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()
        except OSError:
            remedy = "choose another --port"
            raise MachineError(f"port {port}", "cannot be listened on", "", remedy) from None
        uvicorn.Server(config).run([listening])


def make_app(predictor: Predictor, *, budget: int | None = None, title: str = "") -> Starlette:
    """Returns the application; `serve` runs it, tests and other servers may too.

    It explains one sample at a time. Pictures are kept in a temporary folder while they are
    explained, and nothing else is written.

    Args:
        predictor: the model.
        budget: model evaluations of an explanation; the config's by default.
        title: heading of the page.

    Raises:
        MachineError: when the extra is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.routing import Route
    except ImportError as error:
        remedy = 'pip install "fli2moe[app]"'
        raise MachineError("package:starlette", "is not installed", "", remedy) from error
    from fli2moe.app.limits import Guard
    from fli2moe.app.views import Views

    views = Views(predictor, budget, title or f"{predictor.config.model.name}, on this machine")
    return Starlette(
        routes=[
            Route("/", views.page),
            Route("/jobs", views.start, methods=["POST"]),
            Route("/jobs/{id}", views.state),
            Route("/jobs/{id}/cancel", views.cancel, methods=["POST"]),
            Route("/jobs/{id}/report", views.report),
        ],
        middleware=[Middleware(Guard)],
    )


def page_html(predictor: Predictor, title: str) -> tuple[str, str]:
    """Returns the page and its content security policy."""
    nonce = secrets.token_urlsafe(16)
    templates = Templates("fli2moe.app")
    config = predictor.config.data.modalities
    html = templates.render(
        "app.html.j2",
        title=title,
        nonce=nonce,
        version=__version__,
        modalities=[
            {"name": m, "kind": e.kind, "optional": config[m].optional}
            for m, e in predictor.encoders.items()
        ],
        classes=predictor.task.classes,
        style=templates.raw("app.css"),
        script=templates.raw("app.js"),
    )
    return html, POLICY.format(nonce)


def explain_inputs(
    predictor: Predictor,
    inputs: Mapping[str, Any],
    target: str | None,
    budget: int | None,
    progress: Progress,
    say: Any,
) -> str:
    """Predicts, says so, explains, and returns the page of the explanation."""
    prediction = predictor(inputs)
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:8]
    say({"labels": list(prediction.labels), "probabilities": ranked})
    progress("model evaluations", 0, budget or predictor.config.explain.budget)
    explanation = predictor.explain(
        inputs, target, sample_id="new", budget=budget, progress=progress
    )
    sample = Sample("new", {m: str(x) for m, x in inputs.items() if x is not None}, ())
    return report.render([explanation], [sample])


async def read_form(
    request: Request, predictor: Predictor, folder: Path
) -> tuple[dict[str, Any], str | None]:
    """Returns {modality: text, or path of what was uploaded} of a form, and the target if any.

    Raises:
        InputError: when a text or the form is too large, or it is no form.
    """
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    known = len(predictor.config.data.modalities)
    limits = {"max_files": known, "max_fields": known + 1, "max_part_size": MOST_BYTES}
    try:
        async with request.form(**limits) as form:
            inputs = {
                m: await _input(m, form.get(f"input:{m}"), predictor, folder / str(number))
                for number, m in enumerate(predictor.encoders)
            }
            return inputs, str(form.get("target") or "") or None
    except (HTTPException, ClientDisconnect) as error:
        found = getattr(error, "detail", "a request that was cut off or is too large")
        raise InputError("upload", one_line(str(found)), "a form of the page") from None


async def _input(name: str, given: Any, predictor: Predictor, path: Path) -> str | None:
    """A text, or the path that an upload was written to: no name of the sender's is a path."""
    if predictor.encoders[name].kind == "text":
        if not isinstance(given, str):
            return None
        if len(given) > MOST_CHARACTERS:
            found = f"{len(given):,} characters"
            raise InputError(name, found, f"at most {MOST_CHARACTERS:,}", "shorten the text")
        return (
            given if given.strip() or not predictor.config.data.modalities[name].optional else None
        )
    if not getattr(given, "size", None):
        return None
    path = path.with_suffix(".npy" if predictor.encoders[name].kind == "vector" else ".picture")
    path.write_bytes(await given.read())
    return str(path)


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for what was uploaded."""
    return tempfile.TemporaryDirectory(prefix="fli2moe-")
