"""The answer where nobody knows one: an error that no handler expects becomes a 500, and its connection stays."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.api.errors import api_error


class LastResort:
    """ASGI middleware that answers unexpected errors.

    Starlette would answer them as well, but raises them again to the server, which then closes the connection
    without a word: a client's next request on it is lost.
    """

    def __init__(self, app: ASGIApp, retry_after_s: float) -> None:
        """Wrap an application; see `api_error` for ``retry_after_s``."""
        self._app = app
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the application's place, unless it has begun to: then its error is raised, and cuts it off."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            await api_error(error, self._retry_after_s).response()(scope, receive, send)
