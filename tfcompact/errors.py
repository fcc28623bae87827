"""What can go wrong by the user's hand: one line each, and the line holds the remedy."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked for or given. Shown as one line, exit status 2, no traceback."""


class UnknownName(UserError):
    """A name that is not in a table; the message suggests the nearest ones.

    Where none is near it lists them all, or says what does: `listed_by`, a command, where there are too many.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, listed_by: str | None = None) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        remedy = suggestion(name, self.known)
        if listed_by and remedy.startswith("known: "):
            remedy = f"{listed_by} lists all {len(self.known)}"
        super().__init__(f"no {kind} named {name!r}; {remedy}")


class UnreadableImage(UserError):
    """An image file that cannot be decoded, or must not be (too many pixels)."""


class RejectedArtifact(UserError):
    """An exported file did not pass the gate, so it was not written."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean a or b?`, or the list of all names where nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
