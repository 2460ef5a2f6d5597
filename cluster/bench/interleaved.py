"""What interleaved runs with several candidates share: prompts that nobody has seen, and answers of full length."""

from cluster.bench.prompts import PROMPTS, conversation
from cluster.bench.workload import NEW_TOKENS, Candidate, Sampling, Workload
from workers.tokenizer import Tokenizer

CATCH_UP_S = 0.5
"""What a server's processes get to catch up with their timers after they were stopped."""


def make_workload(
    tokenizer: Tokenizer, count: int, sampling: Sampling, nonce: str, new_tokens: int = NEW_TOKENS
) -> Workload:
    """Return the first ``count`` prompts, each made new to every prefix cache by the nonce."""
    messages = (conversation(prompt, f"{nonce} {i}") for i, prompt in enumerate(PROMPTS[:count]))
    return Workload([tokenizer.apply_chat_template(m) for m in messages], sampling, new_tokens)


def rate_of(candidate: Candidate, workload: Workload) -> float:
    """Let a candidate run a workload; return its tokens per second.

    Raises:
        RuntimeError: Answers were shorter than they were to be.
    """
    measured = candidate.run(workload)
    if measured.num_tokens != workload.num_tokens:
        raise RuntimeError(f"{candidate.name}: {measured.num_tokens} tokens, not {workload.num_tokens}")
    return measured.tokens_per_second
