"""What an operator may set about the OpenAI-compatible API: its names and its limits."""

from pathlib import Path

from pydantic import Field

from workers.settings import Settings

MAX_MESSAGES = 4096
"""Longest conversation that an operator can allow: as many messages are checked at once, on the event loop."""
MAX_PROMPTS = 1024
"""Most prompts of one request that an operator can allow."""


class ApiSettings(Settings):
    """Names and limits of the HTTP API. Every limit is hard: what exceeds it is refused with a 4xx."""

    served_model_names: tuple[str, ...] = ()
    """Names that clients may put into ``model``; the first is reported back. Empty: the target's own name."""
    api_keys_file: Path | None = None
    """File with the digests of API keys, on every node that runs an ingress (a mounted secret, say); see
    ``cluster.api.door.key_ring``. It is read again when it changes. None: everybody may ask, as one tenant per salt."""
    metrics_need_key: bool = True
    """Whether ``/metrics`` is closed like everything else where there are API keys."""
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Largest request body; larger ones are answered with 413."""
    body_timeout_s: float = Field(default=60.0, gt=0)
    """How long a client may take to send its body; after that it is answered with 408."""
    max_inside: int = Field(default=2048, ge=1)
    """Requests that an ingress has inside at once, whatever they wait for; more are answered with 429 unread."""
    max_undecided: int = Field(default=128, ge=1)
    """Requests inside that no target has taken or refused yet, because they are being read and tokenised; more are
    answered with 429 unread. It bounds how long a refusal takes."""
    max_inside_bytes: int = Field(default=256 * 2**20, ge=1024)
    """Bodies of all requests inside together; more are answered with 429 unread."""
    max_choices: int = Field(default=8, ge=1, le=128)
    """Largest ``n``."""
    max_prompts: int = Field(default=64, ge=1, le=MAX_PROMPTS)
    """Most prompts in one completion request."""
    max_parallel: int = Field(default=128, ge=1, le=4096)
    """Most sequences that one HTTP request may start: prompts times ``n``."""
    max_messages: int = Field(default=1024, ge=1, le=MAX_MESSAGES)
    max_stop_strings: int = Field(default=16, ge=0)
    max_stop_chars: int = Field(default=256, ge=1)
    """Longest stop string: so much text may be held back while streaming."""
    max_stop_token_ids: int = Field(default=128, ge=0)
    page: bool = True
    """Whether ``/`` is a page for people: a playground and a picture of the cluster. Nobody needs a key for the page
    itself; what it asks for needs one."""
    vllm_metrics: bool = True
    """Whether ``/metrics`` tells what vLLM has a name for under that name as well."""
    report_metrics: bool = True
    """Whether answers with one choice tell their times and what speculation did, as vLLM's ``metrics``."""
    sse_keepalive_s: float = Field(default=15.0, gt=0)
    """A stream that has nothing to say for so long sends a comment, so that proxies keep it open."""
    retry_after_s: float = Field(default=2.0, gt=0)
    """When a client should come back where no target is there (503)."""
