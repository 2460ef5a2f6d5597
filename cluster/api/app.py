"""The HTTP application of an ingress: OpenAI's API in front of a router to the targets."""

from collections.abc import Callable, Iterable
from importlib.metadata import version

from fastapi import FastAPI

from cluster.api.anthropic.routes import messages_routes
from cluster.api.cluster_picture import cluster_routes
from cluster.api.context import ApiContext, served_names
from cluster.api.door.authentication import OPEN_PATHS, Authentication
from cluster.api.door.body_limit import BodyLimit
from cluster.api.door.crowd import Crowd
from cluster.api.door.key_ring import KeyRing
from cluster.api.door.last_resort import LastResort
from cluster.api.door.request_id import RequestIdHeader
from cluster.api.errors import install_error_handlers
from cluster.api.metrics import ApiMetrics
from cluster.api.open_responses.routes import responses_routes
from cluster.api.openai.chat import chat_routes
from cluster.api.openai.completions import completion_routes
from cluster.api.openai.tokenization import tokenization_routes
from cluster.api.openapi import describe
from cluster.api.page.routes import page_paths, page_routes
from cluster.api.probes import probe_routes
from cluster.api.settings import ApiSettings
from cluster.links.generation.router import Router
from cluster.metrics.discovery import ScrapeTarget
from workers.tokenizer import Tokenizer


def make_metrics(gateway: Router, settings: ApiSettings, expected: str = "") -> ApiMetrics:
    """Return the metrics of an ingress, under the first name by which the model is served.

    Until a target has told its name they are under ``expected``: under another name an ingress that still waits for its
    first target would look like a model that nobody serves.
    """
    return ApiMetrics(gateway, lambda: next(iter(served_names(settings, gateway)), expected))


def build_app(
    gateway: Router,
    tokenizer: Tokenizer,
    settings: ApiSettings,
    metrics: ApiMetrics | None = None,
    scrape_targets: Callable[[], Iterable[ScrapeTarget]] = tuple,
) -> FastAPI:
    """Return the application; whoever made the router starts and stops it, in the event loop that serves.

    ``metrics`` is for who shows them elsewhere too; ``scrape_targets`` returns whom Prometheus may scrape.
    Raises ConfigurationError where the file with the API keys cannot be read.
    """
    metrics = metrics or make_metrics(gateway, settings)
    context = ApiContext(gateway, tokenizer, settings, metrics, scrape_targets)
    # The interactive pages load their scripts from elsewhere, which a closed network cannot.
    app = FastAPI(title="Outrider", version=version("outrider"), docs_url=None, redoc_url=None)
    install_error_handlers(app, settings.retry_after_s)
    app.add_middleware(LastResort, retry_after_s=settings.retry_after_s)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s)
    app.add_middleware(
        Crowd,
        max_requests=settings.max_inside,
        max_undecided=settings.max_undecided,
        max_bytes=settings.max_inside_bytes,
        max_body_bytes=settings.max_body_bytes,
        retry_after_s=settings.retry_after_s,
    )
    if settings.api_keys_file is not None:
        app.add_middleware(Authentication, keys=KeyRing(settings.api_keys_file), open_paths=_open_paths(settings))
    app.add_middleware(RequestIdHeader)
    for routes in (
        chat_routes,
        completion_routes,
        responses_routes,
        messages_routes,
        tokenization_routes,
        cluster_routes,
        probe_routes,
    ):
        app.include_router(routes(context))
    if settings.page:
        app.include_router(page_routes())
    describe(app)
    return app


def _open_paths(settings: ApiSettings) -> frozenset[str]:
    """Return what needs no key: the probes, the files of the page, and the metrics where the operator says so."""
    metrics = frozenset[str]() if settings.metrics_need_key else frozenset({"/metrics", "/metrics/targets"})
    return OPEN_PATHS | metrics | (page_paths() if settings.page else frozenset())
