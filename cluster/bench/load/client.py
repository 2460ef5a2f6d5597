"""An OpenAI-compatible endpoint, asked by streaming. Events are noted as they come, and parsed after the last."""

import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from cluster.bench.load.counters import Counters, parse_counters
from cluster.bench.load.errors import BenchError
from cluster.bench.load.sample import Event, Sample, read_sample
from cluster.bench.load.settings import ApiKind
from workers.contract.errors import ConfigurationError

CONNECT_TIMEOUT_S = 10.0
FAILED_BY_LOAD = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that say more of the endpoint's state than of the request: they are counted, others end the run."""
SHOWN_CHARS = 500
"""Most of an error's text that is shown."""


def base_url(url: str) -> str:
    """Return the URL below which ``/chat/completions`` is found: ``/v1`` is added where there is no path.

    Raises:
        ConfigurationError: It is no http(s) URL, or it carries a password.
    """
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or parts.query or parts.fragment:
        raise ConfigurationError(f"{url!r} is not the URL of an endpoint, such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("the URL must not hold a user or password: give a key with --api-key")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


class Client:
    """One endpoint, as an asynchronous context manager."""

    def __init__(self, url: str, api: ApiKind, api_key: str | None = None, timeout_s: float = 600.0) -> None:
        """Talk to the endpoint at ``url``, as `base_url` returns it; a request may take ``timeout_s``."""
        self.url = url
        self._path = url + api.path
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=self._timeout, headers=self._headers
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str) -> str | None:
        """Return the body of a GET, or None where it is not answered with 200.

        Raises:
            BenchError: The endpoint cannot be reached, or wants another key.
        """
        try:
            async with self._open.get(url, allow_redirects=False) as response:
                if response.status in (401, 403):
                    raise BenchError(f"{url} answers HTTP {response.status}: give its key with --api-key")
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise BenchError(f"cannot reach {url}: {_reason(error)}") from None

    async def counters(self) -> Counters | None:
        """Return the endpoint's counters; None where it shows none of ours."""
        try:
            text = await self.get(self.url.removesuffix("/v1") + "/metrics")
        except BenchError:
            return None
        return None if text is None else parse_counters(text)

    async def headers(self, body: Mapping[str, Any]) -> Mapping[str, str]:
        """Send a request, read its stream to the end and return the answer's headers.

        Raises:
            BenchError: The endpoint cannot be reached or does not answer with a stream.
        """
        try:
            async with self._open.post(self._path, json=body, allow_redirects=False) as response:
                if response.status != 200:
                    raise await _refusal(response)
                await response.read()
                return response.headers
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise BenchError(f"cannot reach {self._path}: {_reason(error)}") from None

    async def ask(self, index: int, body: Mapping[str, Any], due: float) -> Sample:
        """Send a request that was due at a reading of ``time.perf_counter`` and return what it brought.

        A request that fails for the endpoint's state or the network is a sample with a failure.

        Raises:
            BenchError: The endpoint refuses the request itself.
        """
        events: list[Event]
        try:
            async with self._open.post(self._path, json=body, allow_redirects=False) as response:
                if response.status in FAILED_BY_LOAD:
                    return Sample(index, failure=f"HTTP {response.status}")
                if response.status != 200:
                    raise await _refusal(response)
                lines = ((time.perf_counter(), line) async for line in response.content)
                events = [(at, line[5:].strip()) async for at, line in lines if line.startswith(b"data:")]
        except TimeoutError:
            return Sample(index, failure="timed out")
        except (aiohttp.ClientError, OSError, ValueError):
            return Sample(index, failure="connection lost")
        return read_sample(index, due, events)

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        return self._session


async def _refusal(response: aiohttp.ClientResponse) -> BenchError:
    """Return the error that carries an answer's own words."""
    text = await response.text(errors="replace")
    try:
        body = json.loads(text)
        message = body["error"]["message"] if isinstance(body.get("error"), dict) else body["message"]
    except (ValueError, LookupError, TypeError, AttributeError):
        message = text
    hint = ": give its key with --api-key" if response.status in (401, 403) else ""
    return BenchError(f"the endpoint answers HTTP {response.status}{hint}: {str(message).strip()[:SHOWN_CHARS]}")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__)[:SHOWN_CHARS]
