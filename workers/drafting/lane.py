"""One line of guesses after a text: the draft itself, or what would follow one of its possible verdicts."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Lane:
    """Guesses in order, and at each of their positions what the drafter would have said instead.

    A lane that prepares for a verdict branches off another one: it repeats its first ``shared`` guesses,
    differs in the one after them (the correction or bonus token that the verdict is expected to bring), and
    goes on from there.
    """

    goal: int = 0
    """Complete with so many guesses."""
    guesses: list[int] = field(default_factory=list)
    ranked: list[Seq[int]] = field(default_factory=list)
    """For each guess the tokens that were likeliest in its place, best first."""
    parent: "Lane | None" = None
    shared: int = 0

    @property
    def complete(self) -> bool:
        """True where no further guess is wanted."""
        return len(self.guesses) >= self.goal

    def take(self, ranked: Seq[int]) -> None:
        """Append the best of the tokens that may come next."""
        self.guesses.append(ranked[0])
        self.ranked.append(ranked)

    def give_up(self) -> None:
        """Be content with what there is."""
        self.goal = len(self.guesses)

    def restart(self) -> None:
        """Drop all guesses."""
        self.guesses, self.ranked = [], []

    def branch(self, at: int, token: int, length: int) -> "Lane":
        """Return a lane that says ``token`` after the first ``at`` guesses, and wants ``length`` more after it."""
        return Lane(at + 1 + length, [*self.guesses[:at], token], self.ranked[: at + 1], self, at)

    def borne_out(self, tokens: Seq[int]) -> bool:
        """True where the guesses begin with ``tokens`` and more of them follow, none of which is a second choice.

        A verdict that is shorter than the one that a lane prepares for says nothing of that one's last token.
        """
        if len(tokens) >= len(self.guesses) or self.guesses[: len(tokens)] != list(tokens):
            return False
        return self.shared < len(tokens) or self.guesses[self.shared] == self.ranked[self.shared][0]

    def advance(self, count: int) -> None:
        """Drop the first ``count`` guesses: they are part of the text now."""
        self.guesses = self.guesses[count:]
        self.ranked = self.ranked[count:]
        self.parent, self.shared = None, 0
