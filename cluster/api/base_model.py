"""The base of every request's model."""

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """Strict types, and unknown fields kept in ``model_extra``."""

    model_config = ConfigDict(extra="allow", strict=True)
