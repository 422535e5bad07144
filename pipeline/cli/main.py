"""The `barkery` command: its subcommands, its exit codes, and one line for each error.

Subcommands live in this folder, one file per group; each imports what it needs when it runs, so that `barkery --help`
does not wait for torch. To add one, write its function and list it in COMMANDS.

Exit codes: 0 all written, 3 complete with failed rows, 2 wrong usage or config, 1 did not complete.
"""

import sys
from typing import Annotated, NoReturn

import typer

from pipeline import __version__
from pipeline.cli import exit_codes
from pipeline.cli.audiobook import audiobook
from pipeline.cli.bench import bench
from pipeline.cli.datasets import export, push
from pipeline.cli.generate import generate, retry
from pipeline.cli.inspect import status, verify
from pipeline.cli.judge import judge
from pipeline.cli.options import LogFormat
from pipeline.cli.plan import plan
from pipeline.cli.report import report
from pipeline.cli.reproduce import reproduce
from pipeline.cli.say import say, voices
from pipeline.errors import BarkeryError, IncompleteError, redact
from pipeline.log import log

COMMANDS = (
    *(plan, generate, retry, status, verify, judge, export, push, report, reproduce),
    *(audiobook, say, voices, bench),
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"barkery {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Show the version and exit.")
    ] = False,
    log_format: LogFormat = None,
) -> None:
    """Turn tables of text into datasets of speech with Suno's Bark."""


def main() -> NoReturn:
    """Run the command line. A known error is one line on stderr and exit code 1 or 2, never a traceback."""
    try:
        app()  # ends the process itself: 0, typer.Exit's code, or 2 for wrong usage
    except IncompleteError as error:
        stop(error, exit_codes.INCOMPLETE)
    except BarkeryError as error:
        stop(error, exit_codes.CONFIG)
    sys.exit(0)


def stop(error: Exception, code: int) -> NoReturn:
    log.error(redact(str(error)))
    sys.exit(code)


if __name__ == "__main__":
    main()
