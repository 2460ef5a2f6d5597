"""The ways in which one request can be decoded, as request fields."""

from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """How answers of one run are decoded."""

    PLAIN = "plain"
    """Without drafts of any kind."""
    SPECULATION = "speculation"
    """As the endpoint's scheduler sees fit, which may be no drafts at all."""
    AS_SERVED = "as served"
    """However the endpoint decodes: it is not Outrider, so it cannot be asked for either."""

    @property
    def fields(self) -> dict[str, Any]:
        """What a request says to be decoded so."""
        return {} if self is Mode.AS_SERVED else {"speculation": {"enabled": self is Mode.SPECULATION}}
