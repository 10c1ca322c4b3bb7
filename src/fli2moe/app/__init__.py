"""A page on this machine: type a text, drop a picture, get prediction and explanation.

Needs `pip install "fli2moe[app]"` (Starlette, uvicorn). It listens on the loopback address alone.
"""

from fli2moe.app.server import make_app, serve

__all__ = ["make_app", "serve"]
