"""The page at ``/``: static files that bring nothing from elsewhere, and headers that keep it so.

The files hold no secret, so nobody needs a key for them; what the page asks for needs one like any other request.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

ASSETS = Path(__file__).parent / "assets"
INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Text becomes nodes, never markup: browsers that know this refuse every assignment of HTML.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Always asked for again, and hardly ever sent again: a new release is seen at once.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """The same for the same content, at every ingress."""
        return f'"{hashlib.blake2b(self.content, digest_size=16).hexdigest()}"'

    def answer(self, if_none_match: str) -> Response:
        """Return the file, or nothing where the client has this very content."""
        headers = {**HEADERS, "etag": self.etag}
        known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        if self.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def page_assets() -> dict[str, Asset]:
    """Return the page's files by the paths where they are served."""
    found = [path for path in sorted(ASSETS.iterdir()) if path.suffix in MEDIA_TYPES]
    return {_path(file): Asset(file.read_bytes(), MEDIA_TYPES[file.suffix]) for file in found}


def page_paths() -> frozenset[str]:
    """Return the paths that need no key."""
    return frozenset(page_assets())


def page_routes() -> APIRouter:
    """Return one route for each file; they are read once, here."""
    routes = APIRouter()
    for path, asset in page_assets().items():
        routes.add_api_route(path, _endpoint(asset), methods=["GET", "HEAD"], include_in_schema=False)
    return routes


def _path(file: Path) -> str:
    return "/" if file.name == INDEX else f"/page/{file.name}"


def _endpoint(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def serve(http: Request) -> Response:
        return asset.answer(http.headers.get("if-none-match", ""))

    return serve
