"""What is not generation: the models, the probes of an orchestrator, the version, the metrics."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from cluster.api.context import ApiContext
from cluster.metrics.discovery import http_sd
from workers.contract.errors import UnavailableError


def probe_routes(context: ApiContext) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the names under which the model is served."""
        return {"object": "list", "data": [_model(context, name) for name in context.model_names()]}

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """Describe one model."""
        context.model(name)
        return _model(context, name)

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """Say that this process lives, whatever the targets do."""
        return {"status": "ok"}

    @routes.get("/ready")
    async def ready() -> dict[str, str]:
        """Say that requests can be served; 503 while no target takes any."""
        if not context.router.ready:
            raise UnavailableError("no target is connected")
        return {"status": "ready"}

    @routes.get("/version")
    async def show_version() -> dict[str, str]:
        """Say which release runs."""
        return {"version": version("outrider")}

    @routes.get("/metrics")
    async def metrics() -> Response:
        """Return this ingress's own metrics and the sums over all targets."""
        text = context.metrics.exposition(vllm_names=context.settings.vllm_metrics)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @routes.get("/metrics/targets")
    async def metrics_targets() -> list[dict[str, Any]]:
        """Tell Prometheus (``http_sd_configs``) where each process of the cluster shows its own metrics."""
        return http_sd(context.scrape_targets())

    return routes


def _model(context: ApiContext, name: str) -> dict[str, Any]:
    identity = context.router.identity
    return {
        "id": name,
        "object": "model",
        "created": context.started,
        "owned_by": "outrider",
        "root": identity.name if identity is not None else name,
        "max_model_len": identity.max_model_len if identity is not None else None,
    }
