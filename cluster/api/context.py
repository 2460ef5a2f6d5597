"""What every route of one application shares."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from cluster.api.beside import beside
from cluster.api.errors import ApiError
from cluster.api.metrics import ApiMetrics
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from cluster.metrics.discovery import ScrapeTarget
from workers.contract.errors import UnavailableError
from workers.contract.identity import ModelIdentity
from workers.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The application's parts and the model behind it."""

    router: Router
    tokenizer: Tokenizer
    settings: ApiSettings
    metrics: ApiMetrics
    scrape_targets: Callable[[], Iterable[ScrapeTarget]] = tuple
    """Where each process of the application shows its own metrics."""
    started: int = field(default_factory=lambda: int(time.time()))

    def model_names(self) -> tuple[str, ...]:
        """Return the names under which the model is served; none while no target has been reached."""
        return served_names(self.settings, self.router)

    def model(self, name: str) -> ModelIdentity:
        """Return the served model's identity; a 404 where ``name`` is another's, a 503 while there is none."""
        identity = self.router.identity
        if identity is None:
            raise UnavailableError("no target has been reached yet")
        if name not in self.model_names():
            raise ApiError(
                404,
                f"the model {name[:200]!r} is not served here; served: {', '.join(self.model_names())}",
                param="model",
                code="model_not_found",
            )
        return identity

    async def encode(self, text: str, param: str) -> list[int]:
        """Return the token ids of a text without holding up other requests."""
        return await beside(partial(self.tokenizer.encode, text, param=param), len(text))


def served_names(settings: ApiSettings, router: Router) -> tuple[str, ...]:
    """Return the configured names, else the target's own."""
    if settings.served_model_names:
        return settings.served_model_names
    return (router.identity.name,) if router.identity is not None else ()


def system_fingerprint(identity: ModelIdentity) -> str:
    """Return OpenAI's ``system_fingerprint``: equal where equal seeds give bitwise equal computation."""
    return "fp_" + hashlib.blake2b(identity.numerics_class.encode(), digest_size=6).hexdigest()


def new_id() -> str:
    """Return an id that no client can choose or guess."""
    return secrets.token_hex(16)
