"""What a user can mend: one sentence that says what is wrong and what to do, shown without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user asked for or gave. `str(error)` is the whole message; the command exits with 2."""


class PresetError(UserError):
    """One or more mistakes in a preset or in an override, each a line `SOURCE:LINE: where: what; remedy`."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnreadableError(UserError):
    """A file that the system does not give now, whatever is in it: nothing follows from that about what it holds."""


class InUseError(UserError):
    """What was asked for is another process's at the moment."""


class StoppedError(Exception):
    """A person or the system asked the run to stop; raised at a step boundary and caught by the run, never shown."""


class TrainingError(Exception):
    """A training that cannot go on, with the reason; the run ends as failed, with what it saved."""


class AwayError(TrainingError):
    """A picture that the system does not give now, which may be whole: it is not broken, and no other one may take its place."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)  # by which it comes out of another process as it was
        self.why, self.said = why, f"{path} cannot be read now: {why}"

    def __str__(self) -> str:
        return f"{self.said}; nothing was changed: try again once it can be read, or remove that picture"

    @property
    def of_run(self) -> str:
        """The message of a run that ends by it."""
        return f"{self.said}; go on by mmkd resume once it can be read, or remove that picture"
