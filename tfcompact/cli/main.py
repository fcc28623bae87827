"""The command line. Each stage's options, help and make target follow from its config; nothing is written twice.

Only the chosen command's module is imported, so `tfcompact --help` answers before TensorFlow could load.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import tfcompact
from tfcompact.cli.commands import commands
from tfcompact.errors import UnknownName, UserError, of_the_system


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 2 for a `UserError`, 130 where it was interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    if words[0] == "--version":
        print(tfcompact.__version__)
        return 0
    name, rest = words[0], words[1:]
    known = commands()
    try:
        if name not in known:
            raise UnknownName("command", name, known)
        module = import_module(f"tfcompact.cli.{known[name].module}_command")
        module.run(name, rest, known[name].help)
        sys.stdout.flush()
    except UserError as error:
        print(f"tfcompact {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {known[name].interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
    except OSError as error:
        print(f"tfcompact {name}: {of_the_system(error)}", file=sys.stderr)
        with contextlib.suppress(OSError, ValueError):  # what cannot be written is not tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return 0


def _print_help() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print("[bold]tfcompact[/]: from a folder of photographs to a verified int8 TFLite file\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for command in commands().values():
        table.add_row(f"[cyan]{command.name}[/]", command.help)
    console.print(table)
    console.print(
        "\n[bold]tfcompact COMMAND --help[/] lists a command's options. For example:\n\n"
        "  tfcompact train --model mobilenet_v2 --data path/to/photos\n"
        "  tfcompact describe mobilenet_v3_small\n",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
