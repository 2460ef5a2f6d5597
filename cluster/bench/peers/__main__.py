"""Ours beside other people's servers on this machine: the same prompts over HTTP, one interleaved run.

Each server is started as its documents say, with the same number of threads and as many places for requests, and is
asked for greedy answers of equal length over OpenAI's completions, by token ids, so that tokenizers and templates play
no part. Who is not being asked is stopped (SIGSTOP): servers that idle use part of a core. The order of a round
rotates. Ours is asked twice, without speculation and as ``outrider serve`` speculates by default.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from rich.console import Console

from cluster.bench.interleaved import CATCH_UP_S, make_workload, rate_of
from cluster.bench.machine import describe_machine
from cluster.bench.peers.servers import Peer, llama_cpp, vllm
from cluster.bench.peers.table import lines, table
from cluster.bench.report import save_report
from cluster.bench.served import ServedCandidate
from cluster.bench.server_process import ChildServer, ServerProcess
from cluster.bench.statistics import rotated
from cluster.bench.workload import GREEDY
from workers.checkpoint.source import resolve_model
from workers.settings import DEFAULT_MODEL
from workers.tokenizer import Tokenizer

PLAIN, SPECULATIVE = "ours, plain", "ours"
TABLE_WIDTH = 140

Served = tuple[ServedCandidate, ChildServer]


def our_config(model: str, threads: int) -> dict[str, object]:
    """Return our settings: the defaults, but for the threads and the dtype."""
    return {"target": {"model": model, "runner": {"dtype": "bfloat16", "threads": threads}}}


def start_all(
    stack: contextlib.ExitStack, model: str, peers: list[Peer], threads: int, console: Console
) -> list[Served]:
    """Start every server in turn, so that none is measured by its neighbour's start; ours comes first."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    console.print("starting ours")
    ours = stack.enter_context(ServerProcess(our_config(model, threads), folder))
    off = {"speculation": {"enabled": False}}
    served: list[Served] = [
        (ServedCandidate(PLAIN, ours.url, model, off), ours),
        (ServedCandidate(SPECULATIVE, ours.url, model), ours),
    ]
    for peer in peers:
        console.print(f"starting {peer.name}")
        server = stack.enter_context(peer.server(folder))
        served.append((ServedCandidate(peer.name, server.url, peer.model), server))
    return served


def measure(
    served: list[Served], tokenizer: Tokenizer, loads: list[int], rounds: int, new_tokens: int, console: Console
) -> dict[tuple[str, int], list[float]]:
    """Run the warm-up and the rounds; return tokens per second by candidate and load, one figure per round."""
    rates: dict[tuple[str, int], list[float]] = {}
    servers = list(dict.fromkeys(server for _, server in served))
    for number in range(rounds + 1):
        console.print("warm-up" if number == 0 else f"round {number} of {rounds}")
        for load in loads:
            for candidate, server in rotated(served, number):
                nonce = f"{number}.{load}.{candidate.name}"
                workload = make_workload(tokenizer, load, GREEDY, nonce, new_tokens)
                with contextlib.ExitStack() as others:
                    for other in servers:
                        if other is not server:
                            others.enter_context(other.frozen())
                    time.sleep(CATCH_UP_S)
                    rate = rate_of(candidate, workload)
                if number:
                    rates.setdefault((candidate.name, load), []).append(rate)
    return rates


def main() -> None:
    """Measure, print the table and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--llama-server", type=Path, help="llama.cpp's program; left out: without llama.cpp")
    parser.add_argument("--gguf", type=Path, nargs="+", default=[], help="files of the model; llama.cpp serves each")
    parser.add_argument("--vllm", type=Path, metavar="PYTHON", help="the Python with vLLM; left out: without vLLM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("bench-results/peers.json"))
    arguments = parser.parse_args()
    if (arguments.llama_server is None) != (not arguments.gguf):
        parser.error("--llama-server and --gguf belong together")
    console = Console(width=TABLE_WIDTH)
    machine = describe_machine()
    model = resolve_model(arguments.model).path
    slots = max(arguments.concurrency)
    peers = [llama_cpp(arguments.llama_server, gguf, arguments.threads, slots) for gguf in arguments.gguf]
    if arguments.vllm is not None:
        peers.append(vllm(arguments.vllm, model, arguments.threads, slots))
    tokenizer = Tokenizer.from_folder(model)
    with contextlib.ExitStack() as stack:
        served = start_all(stack, arguments.model, peers, arguments.threads, console)
        rates = measure(served, tokenizer, arguments.concurrency, arguments.rounds, arguments.new_tokens, console)
    ours = (PLAIN, SPECULATIVE)
    console.print(table(rates, ours))
    save_report(arguments.output, "cluster.bench.peers", machine, speed=lines(rates, ours))
    console.print(f"saved in {arguments.output}")


if __name__ == "__main__":
    main()
