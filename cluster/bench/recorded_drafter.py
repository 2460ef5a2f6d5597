"""A drafter with a memory instead of a model: right with given probabilities, late by a given time.

It looks answers up that the target gave before to the same prompts and seeds, so that benchmarks of scheduling
can have a drafter of any quality without a pair of models that has it, over the real protocol and with the real
text. Run as a child: ``python -m cluster.bench.recorded_drafter --answers FILE``; prints ``ready HOST:PORT``.
"""

import argparse
import asyncio
import json
import random
import signal
import time
from collections.abc import Sequence as Seq
from pathlib import Path

from cluster.bench.workload import Answer
from workers.contract.identity import ModelIdentity, new_incarnation
from workers.drafting.batching import DraftBatcher
from workers.drafting.drafter import Advance, DraftState
from workers.drafting.service import DraftingService
from workers.rpc.channel import RpcServer
from workers.rpc.stubs import drafting_pb2_grpc

SERVICE = "outrider.v1.DraftingService"
MAX_SEQUENCES = 256


class RecordedDrafter:
    """Drafts what is written in a file of answers, with mistakes."""

    def __init__(self, answers: Path, acceptance: float, delay_s: float) -> None:
        """Be right at each position with probability ``acceptance``, and take ``delay_s`` for each step."""
        self.identity = ModelIdentity(name="recorded", vocab_size=0, tokenizer_fingerprint="")
        self._file = answers
        self._acceptance = acceptance
        self._delay_s = delay_s
        self._rng = random.Random(0)
        self._known: dict[DraftState, list[int] | None] = {}

    def advance(self, wanting: Seq[DraftState]) -> Advance:
        """Finish every block at once; a sequence without a recorded answer gets an empty one."""
        time.sleep(self._delay_s)
        for state in wanting:
            if state not in self._known:
                self._known[state] = self._recall(state)
            text = self._known[state] or []
            state.draft = self._spoil(text[len(state.tokens) : len(state.tokens) + state.wanted])
        return Advance(finished=list(wanting))

    def forget(self, state: DraftState) -> None:
        """Forget a sequence."""
        self._known.pop(state, None)

    def _recall(self, state: DraftState) -> list[int] | None:
        for line in self._file.read_text().splitlines():
            answer = Answer.from_json(json.loads(line))
            if answer.seed == state.params.seed and state.tokens[: len(answer.prompt)] == answer.prompt:
                return answer.prompt + answer.tokens
        return None

    def _spoil(self, tokens: list[int]) -> list[int]:
        right = True
        draft = []
        for token in tokens:
            right = right and self._rng.random() < self._acceptance
            draft.append(token if right else 0)
        return draft


async def _serve(drafter: RecordedDrafter) -> None:
    batcher = DraftBatcher(drafter, MAX_SEQUENCES)
    rpc = RpcServer(None)
    drafting_pb2_grpc.add_DraftingServiceServicer_to_server(DraftingService(batcher, new_incarnation()), rpc.grpc)
    address = await rpc.start("127.0.0.1", 0, [SERVICE])
    batcher.start()
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    print(f"ready {address}", flush=True)
    await stopping.wait()
    await rpc.stop()
    await asyncio.to_thread(batcher.stop)


def main() -> None:
    """Run the drafter until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, required=True, help="one Answer as JSON per line")
    parser.add_argument("--acceptance", type=float, required=True)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    asyncio.run(_serve(RecordedDrafter(arguments.answers, arguments.acceptance, arguments.delay_ms / 1000)))


if __name__ == "__main__":
    main()
