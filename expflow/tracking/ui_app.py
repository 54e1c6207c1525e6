"""MLflow's server as ``expflow ui`` runs it: requests that a page of another origin sends are refused.

MLflow takes writes from pages of any port of this machine, and its GraphQL from pages of any site. A browser names the
page's origin with every such request; programs, which send none, are not kept out: who may log in here may write. What
MLflow's assistant would do for them is another matter: it runs programs as the user who started the server.

MLflow finds this module by its entry point (``mlflow.app``), and passes the allowed origins by its environment.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ServerApp = Callable[[Message, Receive, Send], Awaitable[None]]

REFUSAL = b"refused: this page is not one of this server's own"
SWITCHED_OFF = b"refused: MLflow's assistant is switched off"
ASSISTANT = "/mlflow/assistant"
"""A part of the paths of MLflow's assistant."""


class OwnOriginsOnly:
    """An ASGI application that refuses what pages of other origins send, whatever the method and the path.

    Args:
        app: The application behind it.
        origins: The server's own origins (``http://127.0.0.1:5000``).
    """

    def __init__(self, app: ServerApp, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        origins = {value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"origin"}
        foreign = not origins <= self._origins
        if not foreign and ASSISTANT not in scope.get("path", ""):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = REFUSAL if foreign else SWITCHED_OFF
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def create_app() -> ServerApp:
    """The application that the server's worker runs."""
    from mlflow.server.fastapi_app import app

    origins = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "")
    return OwnOriginsOnly(app, frozenset(origin.strip() for origin in origins.split(",") if origin.strip()))
