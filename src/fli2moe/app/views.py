"""What each address of the local page answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from fli2moe.app.jobs import Jobs
from fli2moe.app.server import explain_inputs, page_html, read_form, temporary
from fli2moe.errors import FLI2MoEError, InputError, one_line
from fli2moe.predictor import Predictor


class Views:
    """The pages and answers of one model."""

    def __init__(self, predictor: Predictor, budget: int | None, title: str) -> None:
        self.predictor, self.budget, self.title = predictor, budget, title
        self.jobs = Jobs()

    async def page(self, request: Request) -> Response:
        """The page itself."""
        html, policy = page_html(self.predictor, self.title)
        return HTMLResponse(html, headers={"Content-Security-Policy": policy, **SAFE})

    async def start(self, request: Request) -> Response:
        """Starts an explanation of what the form holds."""
        folder = temporary()
        try:
            inputs, target = await read_form(request, self.predictor, Path(folder.name))
            if target is not None:
                self.predictor.task.index(target)
            missing = [
                m
                for m, options in self.predictor.config.data.modalities.items()
                if inputs.get(m) is None and not options.optional
            ]
            if missing or not any(value is not None for value in inputs.values()):
                what = missing[0] if missing else "a text or a picture"
                raise InputError(what, "nothing given", "", "type a text, choose a file")
        except FLI2MoEError as error:
            folder.cleanup()
            return JSONResponse({"error": one_line(str(error))}, 400, headers=SAFE)

        def work(progress: Any, say: Any) -> str:
            with folder:
                return explain_inputs(self.predictor, inputs, target, self.budget, progress, say)

        job = self.jobs.start(work)
        if job is None:
            folder.cleanup()
            busy = "another sample is being explained: wait, or cancel it"
            return JSONResponse({"error": busy}, 409, headers=SAFE)
        return JSONResponse({"id": job.id}, headers=SAFE)

    async def state(self, request: Request) -> Response:
        """How far a job is."""
        job = self.jobs.find(request.path_params["id"])
        if job is None:
            return JSONResponse({"error": "no such job"}, 404, headers=SAFE)
        return JSONResponse(job.to_json(), headers=SAFE)

    async def cancel(self, request: Request) -> Response:
        """Asks a job to stop at its next step."""
        job = self.jobs.find(request.path_params["id"])
        if job is None:
            return JSONResponse({"error": "no such job"}, 404, headers=SAFE)
        job.stop.set()
        return JSONResponse(job.to_json(), headers=SAFE)

    async def report(self, request: Request) -> Response:
        """The page of a finished explanation; its own policy stands in it."""
        job = self.jobs.find(request.path_params["id"])
        if job is None or job.state != "done":
            return JSONResponse({"error": "no such report"}, 404, headers=SAFE)
        return HTMLResponse(job.result, headers=SAFE)


SAFE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer."""
