"""A drafter with a memory instead of a model: right with given probabilities, late by a given time.

It looks answers up that the target gave before to the same prompts and seeds, so that benchmarks of scheduling
can have a drafter of any quality without a pair of models that has it, over the real protocol and with the real
text. Run as a child: ``python -m cluster.bench.never_slower.recorded_drafter --answers FILE``; prints
``ready HOST:PORT``.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence as Seq
from pathlib import Path

from cluster.bench.workload import Answer
from cluster.simulator.synthetic import SyntheticAcceptance, SyntheticDrafter
from workers.contract.identity import ModelIdentity
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.server import DrafterServer, serve_until_told
from workers.settings import DrafterSettings

WRONG = 0
"""Stands where a guess is not right; the ids after it where further choices are not."""


class RecordedDrafter:
    """Drafts what is written in a file of answers, with mistakes."""

    runs_ahead = True

    def __init__(self, answers: Path, acceptance: float, delay_s: float) -> None:
        """Be right at each position with probability ``acceptance``, and take ``delay_s`` for a block."""
        self.identity = ModelIdentity(name="recorded", vocab_size=0, tokenizer_fingerprint="")
        self._file = answers
        guesses = SyntheticAcceptance([acceptance], random.Random(0), WRONG)
        self._guesser = SyntheticDrafter(guesses, self._truth, whole_blocks=True)
        self._delay_s = delay_s
        self._known: dict[DraftState, list[int]] = {}

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Make whole blocks, as far as there are recorded answers."""
        time.sleep(self._delay_s)
        for state in wanting:
            for lane in state.unfinished():
                lane.goal = min(lane.goal, len(self._truth(state, lane.goal)))
        return self._guesser.advance(wanting)

    def forget(self, state: DraftState) -> None:
        """Forget a sequence."""
        self._known.pop(state, None)

    def _truth(self, state: DraftState, count: int) -> list[int]:
        if state not in self._known:
            self._known[state] = self._recall(state)
        return self._known[state][len(state.tokens) : len(state.tokens) + count]

    def _recall(self, state: DraftState) -> list[int]:
        for line in self._file.read_text().splitlines():
            answer = Answer.from_json(json.loads(line))
            if answer.seed == state.params.seed and state.tokens[: len(answer.prompt)] == answer.prompt:
                return answer.prompt + answer.tokens
        return []


def main() -> None:
    """Run the drafter until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, required=True, help="one Answer as JSON per line")
    parser.add_argument("--acceptance", type=float, required=True)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    drafter = RecordedDrafter(arguments.answers, arguments.acceptance, arguments.delay_ms / 1000)
    server = DrafterServer(DrafterSettings(run_ahead_rows=1024), make=lambda settings: drafter)
    asyncio.run(serve_until_told(server, "127.0.0.1", 0))


if __name__ == "__main__":
    main()
