"""What an operator may say of a trace."""

from pathlib import Path

from pydantic import Field

from workers.contract.errors import ConfigurationError
from workers.settings import Settings


class TraceSettings(Settings):
    """A record of every step, for ui.perfetto.dev."""

    file: Path
    """Written where the target runs. One that is there already is left alone: the process's id goes into the name."""
    max_bytes: int = Field(default=256 * 2**20, ge=4096)
    """Where the trace ends. A step that verifies drafts of 8 requests takes 4 kB; readers cope with some hundred MB."""

    def on_this_machine(self) -> "TraceSettings":
        """Return the settings with a name that every process on this machine understands.

        Raises:
            ConfigurationError: There is such a file already, or no folder for it.
        """
        file = self.file.expanduser().resolve()
        if file.exists():
            raise ConfigurationError(f"the trace {file} exists already: remove it, or name another file")
        if not file.parent.is_dir():
            raise ConfigurationError(f"cannot write the trace {file}: there is no folder {file.parent}")
        return self.model_copy(update={"file": file})
