"""A drafter on a GPU that is not there; run as a child, prints ``ready HOST:PORT``.

Where a machine has one GPU, target and drafter would share it, which is not what they are made for. This drafter takes
the time that a draft model was measured to take (``python -m cluster.bench.gpu``), and the GPU is left to the target.
"""

import argparse
import asyncio

from cluster.bench.emulated.drafter import EmulatedDrafter
from cluster.bench.emulated.serving import serve_drafter


def main() -> None:
    """Run the drafter until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--acceptance", type=float, required=True)
    parser.add_argument("--token-us", type=float, required=True, help="what a row's next token takes")
    parser.add_argument("--row-us", type=float, required=True, help="what each row more adds to it")
    arguments = parser.parse_args()

    def step_s(rows: int) -> float:
        return float(arguments.token_us + arguments.row_us * (rows - 1)) / 1e6

    drafter = EmulatedDrafter(arguments.acceptance, step_s)
    asyncio.run(serve_drafter(drafter))


if __name__ == "__main__":
    main()
