"""The choice of a token once more, in plain Python by the definitions: integers, lists, math."""

import math

from workers.contract.sampling_params import SamplingParams

MASK = 2**64 - 1


def splitmix64(state: int, index: int) -> int:
    x = (state + (index + 1) * 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def state_of(seed: int, position: int) -> int:
    return splitmix64(splitmix64(seed, 0), position)


def exponential(output: int) -> float:
    return -math.log1p(-((output >> 32) + 0.5) / 2**32)


def gumbel(seed: int, position: int, token: int) -> float:
    state, group = state_of(seed, position), token // 64
    output = splitmix64(state, group + 2**40)
    excess = 0.0 if token == group * 64 + output % 64 else exponential(splitmix64(state, token))
    return -math.log(exponential(output) / 64 + excess)


def support(logits: list[float], params: SamplingParams) -> dict[int, float]:
    """Probability of each token that the processors leave; the temperature is above 0."""
    peak = max(logits)
    weight = [math.exp((x - peak) / params.temperature) for x in logits]
    order = sorted((v for v in range(len(logits)) if logits[v] > -math.inf), key=lambda v: (-logits[v], v))
    order = [v for v in order if weight[v] >= params.min_p]
    order = order[: params.top_k or None]
    whole = sum(weight[v] for v in order)
    kept, mass = [], 0.0
    for v in order:
        if mass >= params.top_p * whole:
            break
        kept.append(v)
        mass += weight[v]
    return {v: weight[v] / mass for v in kept}


def choose(logits: list[float], params: SamplingParams, position: int) -> int:
    if params.greedy:
        return max(range(len(logits)), key=lambda v: (logits[v], -v))
    kept = support(logits, params)
    return max(kept, key=lambda v: logits[v] / params.temperature + gumbel(params.seed, position, v))


def rank(logits: list[float], params: SamplingParams, position: int, count: int) -> list[int]:
    if params.greedy:
        return sorted(range(len(logits)), key=lambda v: (-logits[v], v))[:count]
    kept = support(logits, params)
    scores = {v: logits[v] / params.temperature + gumbel(params.seed, position, v) for v in kept}
    return sorted(kept, key=lambda v: -scores[v])[:count]
