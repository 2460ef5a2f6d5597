"""What it is worth that a target has a prompt's beginning in its prefix cache.

An ingress sends a request to the target with the lowest ::

    cost = queue length - min(tokens found there / TOKENS_PER_REQUEST, MAX_PULL)

Both terms count requests: a target with one more of them is worth it where so much of the prompt need not be
computed that it makes up for an ordinary request. So among equally loaded targets the one that knows the prompt
wins, and no prompt is worth a queue that is longer by more than MAX_PULL. A prefix that everybody sends spreads by
itself: once its target is MAX_PULL ahead another one gets it, and has it from then on.
"""

TOKENS_PER_REQUEST = 256
"""Positions that an ordinary request makes its target compute, prompt and answer together."""
MAX_PULL = 4.0
"""Requests by which the queue of a target that knows the prompt may be longer."""


def cost(queue_length: int, tokens_found: int) -> float:
    """Return what sending a request to a target costs, in requests; ``tokens_found`` is a guess at what it has."""
    return queue_length - min(tokens_found / TOKENS_PER_REQUEST, MAX_PULL)
