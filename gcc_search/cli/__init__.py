"""The command line: arguments -> one call -> exit code. Heavy imports stand inside the commands."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from gcc_search import __version__
from gcc_search.cli import usage
from gcc_search.cli.jobs import add_job_commands
from gcc_search.cli.networks import add_network_commands
from gcc_search.cli.results import add_result_commands
from gcc_search.cli.search import add_search_commands
from gcc_search.cli.streams import make_sayable
from gcc_search.cli.train import add_train_command
from gcc_search.errors import ClusterError, GccSearchError
from gcc_search.letters import printable, shortened
from gcc_search.search.going_on import end_hung_up, heeded

# Characters of a message: a path that fills the screen hides the rule.
MOST_TOLD = 1200


class _SearchByDefault(TyperGroup):
    """`gcc-search --space FILE` is `gcc-search search --space FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            print(ctx.get_help(), end="")
            raise typer.Exit(1)
        if args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["search", *args]
        return super().parse_args(ctx, args)

    def make_context(self, *given: Any, **named: Any) -> Any:
        try:
            return super().make_context(*given, **named)
        except TyperException as error:
            raise _misused(error, None) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TyperException as error:
            raise _misused(error, ctx.invoked_subcommand) from None
        except KeyboardInterrupt:
            # Typer ends without a word.
            print("gcc-search: stopped", file=sys.stderr)
            raise typer.Exit(130) from None


def _misused(error: TyperException, invoked: str | None) -> typer.Exit:
    # 2 would mean that some trials failed.
    _say(usage.told(error, invoked))
    return typer.Exit(1)


app = typer.Typer(
    cls=_SearchByDefault,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search alpha, beta and p for image classifiers whose Grad-CAM explanations are consistent and sparse.\n\n"
    "gcc-search --space FILE --gpus N is short for gcc-search search --space FILE --gpus N.",
)


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 1."""
    # A cluster's scheduler asks with SIGTERM what a person asks with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.SIGHUP in heeded():
        signal.signal(signal.SIGHUP, end_hung_up)
    make_sayable()
    try:
        app()
    except ClusterError as error:
        # A line for each thing that is wrong.
        _refuse(*str(error).split("\n"))
    except GccSearchError as error:
        _refuse(str(error))
    except OSError as error:
        # What names a file is about that file: no permission, too long a name, a loop of links.
        if error.filename is None:
            raise
        _refuse(f"{error.filename}: must be within reach, got: {error.strerror}; look at its name, owner and disk")


def _refuse(*lines: str) -> NoReturn:
    for line in lines:
        _say(line)
    sys.exit(1)


def _say(line: str) -> None:
    print(f"gcc-search: {shortened(printable(line), MOST_TOLD)}", file=sys.stderr)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"gcc-search {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Options before a command."""


add_search_commands(app)
add_train_command(app)
add_result_commands(app)
add_network_commands(app)
add_job_commands(app)
