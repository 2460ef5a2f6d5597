"""Deploy the application on the Ray cluster at hand and wait until it answers."""

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from cluster.api.door.address import bind_http
from cluster.config import ClusterConfig, HttpConfig, ServedBy
from cluster.private_ray import private_ray, requested_resources
from workers.contract.errors import ConfigurationError, ModelRefusedError, OutriderError

POLL_S = 0.2
READY_TIMEOUT_S = 120.0
OWN_REFUSAL = re.compile(r"\.(?:ModelRefusedError|ConfigurationError): (.+)")
"""Errors of ours whose message is the whole explanation, as they stand at the end of a traceback."""

SLOW_START = re.compile(r"have taken more than \d+s to\s+initialize")
"""What Serve says of replicas that need longer than it thinks usual."""

Report = Callable[[str], None]
"""Takes one line about what is being done."""


class DeployError(OutriderError):
    """The application could not be started."""


def require_same_tokenizer(target: Path, drafter: Path) -> None:
    """Raise ModelRefusedError where two model folders have different vocabularies: no draft would ever fit."""
    if fingerprint_of(target) != fingerprint_of(drafter):
        raise ModelRefusedError(
            f"the draft model in {drafter} has another tokenizer than the target in {target}: "
            "choose one of the same family, or --drafter ngram"
        )


def fingerprint_of(folder: Path) -> str:
    """Return the fingerprint of a model's tokenizer, or of the one that a draft model was made for."""
    from workers.draft_model.config import DraftModelConfig, is_draft_model
    from workers.tokenizer import Tokenizer  # seconds of imports, for who needs them

    if is_draft_model(folder):
        return DraftModelConfig.load(folder).tokenizer_fingerprint
    return Tokenizer.from_folder(folder).fingerprint


def require_free_port(http: HttpConfig) -> None:
    """Raise ConfigurationError where HTTP cannot listen, before anything is started for nothing."""
    bind_http(http.host, http.port).close()


def asks_for_token(environ: Mapping[str, str]) -> bool:
    """Return whether Ray, in an environment like this, asks everybody who comes for a token."""
    return environ.get("RAY_AUTH_MODE", "").lower() == "token"


@contextlib.contextmanager
def ray_for(config: ClusterConfig) -> Iterator[str]:
    """Run, or join, the Ray cluster that ``config`` asks for; yields the place of its logs."""
    if config.ray.address is None:
        with private_ray(requested_resources(config.target, config.drafters, config.http)) as logs:
            yield str(logs)
        return
    import ray

    try:
        ray.init(address=config.ray.address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"cannot join the Ray cluster at {config.ray.address} (ray.address in the settings): {error}. "
            "`ray start --head` starts one, with the RAY_AUTH_TOKEN of this shell; without ray.address, "
            "Ray is started here for this service alone"
        ) from None
    try:
        yield "Ray's session folder on each node"
    finally:
        ray.shutdown()


@contextlib.contextmanager
def deployed(config: ClusterConfig, report: Report) -> Iterator[None]:
    """Serve ``config`` for the length of the context; at its end requests in progress may finish.

    A second interrupt while they do ends the context at once.

    Raises:
        DeployError: A role cannot start, or the service does not answer.
    """
    from ray import serve

    deploy(config, report)
    try:
        wait_until_ready(config.http)
        yield
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            serve.delete(config.name)


def deploy(config: ClusterConfig, report: Report) -> None:
    """Deploy ``config`` and return when every role runs; reports each role as it becomes ready.

    Raises:
        ConfigurationError: A role refuses its model or settings, in its own words.
        DeployError: A role cannot start.
    """
    from ray import serve
    from ray.serve import RunTarget
    from ray.serve.config import ProxyLocation

    from cluster.serve_app import build_application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=ProxyLocation.Disabled if config.http.served_by is ServedBy.INGRESS else None,
        http_options={"host": config.http.host, "port": config.http.port},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    serve.run_many([RunTarget(target=build_application(config), name=config.name)], wait_for_applications_running=False)
    told: dict[str, str] = {}
    while True:
        application = serve.status().applications[config.name]
        _require_no_refusal(application)
        for name, deployment in application.deployments.items():
            line = _describe(name.lower(), deployment)
            if line and told.get(name) != line:
                told[name] = line
                report(line)
        if application.status == "RUNNING":
            return
        if application.status == "DEPLOY_FAILED":
            raise DeployError("the service could not be started; the lines above and the logs say why")
        time.sleep(POLL_S)


def wait_until_ready(http: HttpConfig, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Return when ``/ready`` answers 200.

    Raises:
        DeployError: It does not within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, HTTPException):
            status, _ = _get(http, "/ready")
            if status == 200:
                return
        time.sleep(POLL_S)
    raise DeployError(f"the service did not become ready within {timeout_s:.0f} s")


def served_model(http: HttpConfig) -> str:
    """Return the first name under which the service lists its model."""
    _, body = _get(http, "/v1/models")
    return str(json.loads(body)["data"][0]["id"])


def _get(http: HttpConfig, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(reachable_host(http), http.port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def reachable_host(http: HttpConfig) -> str:
    """Return the address under which this machine reaches what listens on ``http.host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104  # it binds nothing


def _require_no_refusal(application: Any) -> None:
    """Raise a refusal of our own that Serve reports in a traceback: trying again would not change it."""
    for deployment in application.deployments.values():
        if found := OWN_REFUSAL.search(deployment.message):
            raise ConfigurationError(found[1])


def _describe(name: str, deployment: Any) -> str:
    """Return a line about a deployment that is ready, or the reason why it is not."""
    if deployment.status == "HEALTHY":
        count = sum(deployment.replica_states.values())
        return f"{name} ready" + (f" ({count} replicas)" if count > 1 else "")
    if SLOW_START.search(deployment.message):
        return f"{name} is still starting"
    lines = deployment.message.splitlines()
    return ": ".join([name, *lines[:1], *lines[1:][-1:]]) if lines else ""
