"""Loss and acceptance over training, as a picture."""

from pathlib import Path

from matplotlib.figure import Figure

from workers.distill.journal import Journal

SIZE = (9.0, 4.2)
DPI = 130
COLOURS = ("#0a7d5a", "#2b5fa8", "#7a3e9d", "#b0651d")
SMOOTHED_OVER = 50


def save_plot(journal: Path, path: Path) -> None:
    """Draw a journal: on the left the loss and agreement of each step, on the right estimates on held-out prompts."""
    entries = Journal(journal).entries()
    steps = [entry for entry in entries if "loss" in entry]
    estimates = [entry for entry in entries if "acceptance" in entry]
    figure = Figure(figsize=SIZE, layout="constrained")
    left, right = figure.subplots(1, 2)
    xs = [entry["step"] for entry in steps]
    left.plot(xs, _smooth([entry["loss"] / len(entry["agreement"]) for entry in steps]), color="#4c566a")
    left.set_yscale("log")
    left.set_xlabel("step")
    left.set_ylabel("loss per token of a block (nats)")
    shares = left.twinx()
    for s, colour in enumerate(COLOURS):
        trained = [entry for entry in steps if len(entry["agreement"]) > s]
        if trained:
            values = _smooth([entry["agreement"][s] for entry in trained])
            shares.plot([entry["step"] for entry in trained], values, color=colour, label=f"token {s + 1}")
    shares.set_ylim(0, 1)
    shares.set_ylabel("same favourite as the target")
    shares.legend(frameon=False, fontsize=8, loc="lower right")
    for i, colour in zip(range(len(estimates[-1]["acceptance"]) if estimates else 0), COLOURS, strict=False):
        right.plot(
            [entry["step"] for entry in estimates],
            [entry["acceptance"][i]["length"] for entry in estimates],
            marker="o",
            markersize=3,
            color=colour,
            label=f"temperature {estimates[-1]['acceptance'][i]['temperature']:g}",
        )
    right.set_ylim(bottom=1)
    right.set_xlabel("step")
    right.set_ylabel("tokens per verification, K=4, held-out prompts")
    if estimates:
        right.legend(frameon=False)
    figure.savefig(path, dpi=DPI)


def _smooth(values: list[float]) -> list[float]:
    smoothed = []
    for i in range(len(values)):
        part = values[max(0, i + 1 - SMOOTHED_OVER) : i + 1]
        smoothed.append(sum(part) / len(part))
    return smoothed
