"""The emulated target says what seed and position decide, and takes what the formula says."""

from cluster.bench.emulated.runner import EmulatedRunner
from cluster.simulator.synthetic import token
from workers.contract.sampling_params import SamplingParams
from workers.contract.step import Row, StepPlan


def test_it_chooses_the_true_tokens_whatever_was_drafted_and_pays_for_all_positions():
    costs = []

    def step_s(positions: int, context: int) -> float:
        costs.append((positions, context))
        return 0.0

    runner = EmulatedRunner(step_s, max_running=2)
    verification = Row(1, [token(7, 19), 1000, 1000], 19, [0, 1], 3, SamplingParams(seed=7))
    prompt = Row(2, [1, 2, 3, 4], 0, [2], 0, SamplingParams(seed=8))
    output = runner.execute(StepPlan((verification, prompt)))
    assert output.sampled == [[token(7, 20), token(7, 21), token(7, 22)], []]
    assert costs == [(7, 22 + 4)]


def test_there_is_room_for_everybody_and_for_every_guess():
    runner = EmulatedRunner(lambda positions, context: 0.0, max_running=4)
    assert runner.num_blocks * runner.block_size >= 4 * runner.max_model_len
    assert runner.identity.vocab_size > 1000 + 3
