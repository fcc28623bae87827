"""What can go wrong by the user's hand: one line each, and the line holds the remedy."""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


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


class DamagedFile(UserError):
    """A file that tfcompact wrote and cannot read any more. `file` is which."""

    def __init__(self, file: Path, reason: str, remedy: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(f"{file} {reason}; {remedy}")


class Busy(UserError):
    """Another process is making what was asked for: it will be there, or can be made, a little later."""


class UnreadableImage(UserError):
    """An image file that cannot be decoded, or must not be (too many pixels)."""


class RejectedArtifact(UserError):
    """An exported file did not pass the gate, so it was not written."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean a or b?`, or the list of all names where nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"


def of_the_system(error: OSError) -> str:
    """The line about what the operating system refused, with its remedy."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{reason}; {REMEDIES.get(error.errno or 0, OTHERWISE)}"


OTHERWISE = "what was finished stays, and the same command goes on from there"
REMEDIES = {
    errno.ENOSPC: f"make room, or take another disk with --runs and --cache; {OTHERWISE}",
    errno.EDQUOT: f"make room within your quota; {OTHERWISE}",
    errno.EFBIG: f"a limit of the size of files is in force (ulimit -f); raise it; {OTHERWISE}",
    errno.EROFS: "the disk is read-only; take another with --runs and --cache",
    errno.EACCES: "give rights there, or take another directory with --runs and --cache",
    errno.EPERM: "give rights there, or take another directory with --runs and --cache",
    errno.ENAMETOOLONG: "take a shorter path or name",
    errno.EMFILE: "too many files are open (ulimit -n); raise the limit",
}
