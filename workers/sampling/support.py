"""A few tokens per row, found in a whole vocabulary without looking at every token more than once or twice."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.sampling.noise import GROUP


@dataclass(frozen=True, slots=True)
class Support:
    """The tokens that some rows may still draw; short rows are padded with a logit of -inf."""

    rows: Tensor  # [num_rows] which rows of the batch these are
    ids: Tensor  # [num_rows, width]
    logits: Tensor  # [num_rows, width] as the model gave them; -inf where cut

    @classmethod
    def of(cls, logits: Tensor, rows: Tensor, ids: Tensor, valid: Tensor) -> "Support":
        """Look up the logits of ``ids`` where they are ``valid`` (both ``[num_rows, width]``)."""
        return cls(rows, ids, logits.gather(-1, ids).masked_fill_(~valid, -torch.inf))

    def sorted(self) -> "Support":
        """Return the same tokens, the most likely first and equal ones by rising id."""
        logits, order = torch.sort(self.logits, dim=-1, descending=True, stable=True)
        return Support(self.rows, self.ids.gather(-1, order), logits)

    def keep(self, kept: Tensor) -> "Support":
        """Return the support with all but ``kept`` (bool, shape of ``ids``) cut away."""
        return Support(self.rows, self.ids, self.logits.masked_fill(~kept, -torch.inf))

    def of_rows(self, index: Tensor) -> "Support":
        """Return the support of some of its rows."""
        return Support(self.rows[index], self.ids[index], self.logits[index])


def pack(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each row of ``mask`` is true, by rising index, and which entries are no padding.

    Both are ``[num_rows, width]``, int64 and bool, with the width of the longest row.
    """
    row, index = mask.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(mask))
    slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    packed = index.new_zeros((len(mask), int(counts.max())))
    packed[row, slot] = index
    return packed, torch.arange(packed.shape[1], device=row.device) < counts[:, None]


def in_groups(values: Tensor, before: int = 0) -> Tensor:
    """View ``[num_rows, vocab]`` as ``[num_rows, groups, GROUP]``, filled up with -inf where it does not fit.

    ``before`` is how many ids of the first group come before the first column.
    """
    after = -(before + values.shape[-1]) % GROUP
    if before or after:
        values = torch.nn.functional.pad(values, (before, after), value=-torch.inf)
    return values.view(len(values), -1, GROUP)


def at_least(grouped: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``pack`` of where ``grouped`` (``[num_rows, groups, GROUP]``) reaches its group's floor.

    The floor is above -inf and broadcasts to ``[num_rows, groups]``. Only groups whose largest value
    reaches it are looked into; they are few.
    """
    floor = floor.expand(grouped.shape[:2])
    group, valid = pack(grouped.amax(-1) >= floor)
    ids = (group[:, :, None] * GROUP + torch.arange(GROUP, device=group.device)).flatten(1)
    values = grouped.flatten(1).gather(-1, ids).view(*group.shape, GROUP)
    reached = (values >= floor.gather(-1, group)[:, :, None]) & valid[:, :, None]
    chosen, chosen_valid = pack(reached.flatten(1))
    return ids.gather(-1, chosen), chosen_valid
