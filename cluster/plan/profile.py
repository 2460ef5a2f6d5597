"""A hardware profile: what targets and drafters cost in time and money, and what they are asked for.

Times are milliseconds here, where people read and write them, and seconds everywhere else.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from cluster.config_loader import explain, read_file
from cluster.scheduler.settings import SchedulerSettings
from cluster.simulator.hardware import Hardware
from workers.contract.draft import MAX_DRAFT_LENGTH
from workers.contract.errors import ConfigurationError
from workers.settings import Settings

MAX_MS = 60_000.0
MAX_PRICE = 1e6
MAX_TOKENS = 32_768
MS = 1e-3

Share = Annotated[float, Field(ge=0, le=1)]


class StepCosts(Settings):
    """What a target's step takes: a pass over the weights, work per position, attention over the contexts."""

    fixed_ms: float = Field(gt=0, le=MAX_MS)
    """However little is computed: the weights are read once."""
    per_position_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """For each position that is computed, decoding, draft and prompt alike."""
    per_context_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """For each token that one of the rows can see."""
    drafts_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """Once for a step that verifies drafts, however many: its rows are no longer all of one length. Some 10 % of a
    step on CPUs, nothing on GPUs."""
    roofline: bool = False
    """Whether computing goes on while weights are read, so that the longer of the two counts and not their sum: so
    on GPUs with large models."""
    overhead_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """Between two steps, ..."""
    overhead_per_row_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """... and for each sequence: planning, packing, handing tokens out."""
    plans_ahead: bool = False
    """Whether all that is done beside steps that verify nothing, and takes time only where it takes longer than they
    do: so on GPUs, whose hosts have nothing else to do."""
    price_per_hour: float | None = Field(default=None, ge=0, le=MAX_PRICE)
    """Of a whole target, all its devices together, in any currency. None: not known."""

    def step_s(self, positions: int, context: int, verifies: bool = False) -> float:
        """Return the seconds of a step of so many positions whose rows see so much context in all.

        ``verifies``: there are draft tokens among the positions.
        """
        weights, work = self.fixed_ms, self.per_position_ms * positions
        passed = max(weights, work) if self.roofline else weights + work
        return (passed + self.per_context_ms * context + self.drafts_ms * verifies) * MS

    def overhead_s(self, rows: int) -> float:
        """Return the seconds between a step of so many rows and the next."""
        return (self.overhead_ms + self.overhead_per_row_ms * rows) * MS


class DraftCosts(Settings):
    """What a drafter's step takes, which adds one token to every draft that is being made."""

    block_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """Once, however many blocks are begun in a step: for reading what the target has decided."""
    block_per_row_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """And for each of those blocks."""
    fixed_ms: float = Field(ge=0, le=MAX_MS)
    """For a token, however many drafts get one."""
    per_row_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """For each sequence, and for each guess that runs ahead."""
    runs_ahead: bool = True
    """Whether it prepares for verdicts while the target comes to them: models do, n-gram look-up does not."""
    whole_blocks: bool = False
    """Whether it makes a block in one go, as models that read the target's states do; else token by token, so that
    what is asked for meanwhile is begun at once."""
    price_per_hour: float | None = Field(default=None, ge=0, le=MAX_PRICE)
    """Of one drafter, in the currency of the target's. None: not known."""

    def step_s(self, rows: int) -> float:
        """Return the seconds of a step for so many drafts at once."""
        return (self.fixed_ms + self.per_row_ms * rows) * MS

    def begin_s(self, rows: int) -> float:
        """Return the seconds that it takes to begin so many blocks at once."""
        return (self.block_ms + self.block_per_row_ms * rows) * MS if rows else 0.0


class HardwareProfile(Settings):
    """Everything that a plan has to know of machines, models and texts."""

    name: str = Field(default="unnamed", min_length=1, max_length=100)
    origin: str = Field(default="not said", max_length=2000)
    """Where the figures come from: measured when and on what, or derived how."""
    target: StepCosts
    drafter: DraftCosts
    round_trip_ms: float = Field(default=0.0, ge=0, le=MAX_MS)
    """From a target to a drafter and back."""
    interference: float = Field(default=0.0, ge=0, le=10)
    """By what share a target's step takes longer beside a drafter at work: 0 on hardware of its own."""
    drafter_interference: float = Field(default=0.0, ge=0, le=10)
    """By what share a drafter's step takes longer beside a target at work."""
    jitter: float = Field(default=0.05, ge=0, lt=1)
    """Times vary evenly by this share up and down."""
    acceptance: tuple[Share, ...] = Field(min_length=1, max_length=MAX_DRAFT_LENGTH)
    """Probability that a draft's first, second ... token is right if all before it are; the last one holds for all
    later ones."""
    prompt_tokens: int = Field(default=256, ge=1, le=MAX_TOKENS)
    answer_tokens: int = Field(default=200, ge=2, le=MAX_TOKENS)
    scheduler: SchedulerSettings = SchedulerSettings()
    """As in the settings of a deployment. Look-ups are not simulated: synthetic texts never repeat themselves."""

    @property
    def hardware(self) -> Hardware:
        """The profile as the simulator takes it."""
        return Hardware(
            self.target.step_s,
            self.drafter.step_s,
            self.round_trip_ms * MS,
            self.interference,
            self.target.overhead_s,
            self.drafter.whole_blocks,
            self.jitter,
            self.drafter.begin_s,
            self.drafter_interference,
            self.target.drafts_ms * MS,
            self.target.plans_ahead,
        )

    def changed(self, **changes: object) -> "HardwareProfile":
        """Return a copy with the fields named in ``changes`` set, those of them that are not None, validated anew.

        Keys name nested fields by double underscores: ``target__price_per_hour``.

        Raises:
            ConfigurationError: One line for each wrong value.
        """
        values = self.model_dump()
        for name, value in changes.items():
            if value is not None:
                *path, last = name.split("__")
                place = values
                for key in path:
                    place = place[key]
                place[last] = value
        return parse_profile(values)


def parse_profile(values: object) -> HardwareProfile:
    """Validate a nested mapping.

    Raises:
        ConfigurationError: One line for each wrong key or value.
    """
    try:
        return HardwareProfile.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain(error, HardwareProfile)) from None


def load_profile(path: Path) -> HardwareProfile:
    """Read a profile from a YAML or JSON file.

    Raises:
        ConfigurationError: The file cannot be read, or a value or key in it is wrong; says which.
    """
    try:
        return parse_profile(read_file(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"the profile {path} cannot be used:\n{error}") from None
