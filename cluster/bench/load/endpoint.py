"""Who answers: the model's name, whether it is Outrider, and so in which modes it can be asked."""

import json
from collections.abc import Mapping
from typing import Any

from cluster.bench.load.client import Client
from cluster.bench.load.errors import BenchError
from cluster.bench.load.modes import Mode
from cluster.bench.load.prompts import Prompt
from cluster.bench.load.settings import ApiKind
from workers.settings import Settings

OWNER = "outrider"
OWN_HEADERS = "x-outrider-"
IGNORED = "x-outrider-ignored-fields"
PROBE_TOKENS = 2


class Endpoint(Settings):
    """What is known of the endpoint before it is measured."""

    url: str
    model: str
    owner: str
    """``owned_by`` in its list of models."""
    outrider: bool
    """It is Outrider and heeds the field ``speculation``: plain decoding and speculation can be compared."""
    version: str = ""
    notes: tuple[str, ...] = ()
    """What a reader of the report must know of it."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that a round goes through."""
        return (Mode.PLAIN, Mode.SPECULATION) if self.outrider else (Mode.AS_SERVED,)


async def identify(client: Client, api: ApiKind, prompt: Prompt, model: str | None) -> Endpoint:
    """Ask the endpoint who it is, and send one short request, or two, to see that and how it answers.

    Raises:
        BenchError: It cannot be reached, does not serve ``model``, or refuses the request.
    """
    served = _models(await client.get(f"{client.url}/models"))
    if model is None and not served:
        raise BenchError(f"{client.url}/models lists no model: name one with --model")
    name = model if model is not None else next(iter(served))
    owner = served.get(name, "")
    body = {"model": name, **prompt.fields(api), "max_tokens": PROBE_TOKENS, "temperature": 0, "stream": True}
    headers = await client.headers(body)
    if owner != OWNER and not any(header.lower().startswith(OWN_HEADERS) for header in headers):
        return Endpoint(url=client.url, model=name, owner=owner, outrider=False, notes=(_FOREIGN,))
    headers = await client.headers(body | Mode.PLAIN.fields)
    heeded = "speculation" not in _header(headers, IGNORED).split(",")
    version = _version(await client.get(client.url.removesuffix("/v1") + "/version"))
    notes = () if heeded else (_IGNORING,)
    return Endpoint(url=client.url, model=name, owner=owner, outrider=heeded, version=version, notes=notes)


_FOREIGN = (
    "The endpoint is not Outrider: it has no field that turns speculation off for a request, so it is measured as "
    "served, and nothing here tells whether it speculates. Rounds repeat their prompts, which a prefix cache of its "
    "own may know: its times to first token are then too good. Answers end where the model ends them."
)
_IGNORING = (
    "The endpoint is Outrider, but it ignores the request field speculation: it is measured as served, and there is "
    "nothing to compare."
)


def _models(text: str | None) -> dict[str, str]:
    """Return the listed models with their owners."""
    try:
        return {str(item["id"]): str(item.get("owned_by", "")) for item in json.loads(text or "{}")["data"]}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _version(text: str | None) -> str:
    try:
        return str(json.loads(text or "{}")["version"])
    except (ValueError, LookupError, TypeError):
        return ""


def _header(headers: Mapping[str, Any], name: str) -> str:
    return next((str(value) for key, value in headers.items() if key.lower() == name), "")
