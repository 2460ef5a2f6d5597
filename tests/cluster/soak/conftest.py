"""A whole ingress over a scripted engine, as the tests of the API have it."""

from tests.cluster.api.conftest import api, tokenizer

__all__ = ["api", "tokenizer"]
