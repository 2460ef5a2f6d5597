"""The yardstick: Hugging Face ``generate`` in bf16, one prompt at a time. Run as a child by `versus_hf`."""

import argparse
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM

from cluster.bench.worker import serve_workloads
from cluster.bench.workload import Measurement, Workload
from workers.checkpoint.source import resolve_model


def load(model_name: str, threads: int) -> Callable[[Workload], Measurement]:
    """Return a function that generates for each prompt of a workload in turn."""
    torch.set_num_threads(threads)
    folder = resolve_model(model_name).path
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).eval()

    def run(workload: Workload) -> Measurement:
        sampling = workload.sampling
        draw = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        options = {"do_sample": True, **draw} if sampling.temperature else {"do_sample": False}
        started = time.perf_counter()
        emitted = 0
        for prompt in workload.prompts:
            ids = torch.tensor([list(prompt)])  # [1, prompt_len]
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=workload.new_tokens,
                min_new_tokens=workload.new_tokens,
                pad_token_id=0,
                **options,
            )
            emitted += output.shape[1] - ids.shape[1]
        return Measurement(emitted, time.perf_counter() - started)

    return run


def main() -> None:
    """Read workloads from stdin until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    with torch.inference_mode():
        serve_workloads(lambda: load(arguments.model, arguments.threads))


if __name__ == "__main__":
    main()
