"""The command ``triscale``: its subcommands and its error handling."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial

from cyclopts import App, CycloptsError, Group, UnknownOptionError, UnusedCliTokensError

from triscale.cli.commands import (
    baseline,
    calibrate,
    compare,
    data,
    deploy,
    family,
    features,
    measure,
    networks,
    predict,
    profile,
    publish,
    results,
    robustness,
    search,
    serve,
    show,
    training,
    transfer,
    verify,
    weights,
)
from triscale.cli.support.amounts import refuse_fractions
from triscale.cli.support.hints import hint_for
from triscale.cli.support.terminal import make_printable
from triscale.errors import Interrupted, TriscaleError
from triscale.progress import logger, received_signal

HELP = """Fit an image classifier to a compute budget by scaling depth, width and resolution together.

Start with: triscale demo. Options of all commands: -q prints only results, -v prints details, --debug prints
tracebacks.
"""

ARGUMENTS = Group("Arguments", sort_key=1, validator=refuse_fractions)
PARAMETERS = Group("Parameters", sort_key=2, validator=refuse_fractions)
_new_app = partial(App, group_arguments=ARGUMENTS, group_parameters=PARAMETERS)
"""Groups of commands do not take over the groups of options of the app that they are added to later."""

app = _new_app(name="triscale", help=HELP, version_flags=["--version"], help_format="markdown")
app.register_install_completion_command()

WORDS = {"help": "--help", "version": "--version"}
"""Commands that are written as options too."""

COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Networks and their cost": (networks.list_, show.show, networks.scale),
    "The method": (compare.compare, family.family),
    "Training": (training.demo, training.fit, training.train, transfer.transfer_table),
    "With a finished run": (
        results.evaluate,
        calibrate.calibrate,
        robustness.robustness,
        predict.predict,
        measure.measure,
        profile.profile,
        deploy.export,
        deploy.deploy,
        results.explain,
        features.features,
        results.report,
        publish.card,
        verify.verify,
        publish.sign,
        serve.serve,
    ),
}
for group, commands in COMMANDS.items():
    for command in commands:
        app.command(command, name=command.__name__.rstrip("_").replace("_", "-"), group=group)

searches = _new_app(
    name="search",
    help="Search for a baseline or for scaling coefficients; show the status of searches and resume them.",
    group="The method",
)
for command in (baseline.baseline, search.coefficients, search.status, search.resume, search.export):
    searches.command(command)
app.command(searches)

images = _new_app(name="data", help="Check data sets, and pack them into shards.", group="Images")
images.command(data.check)
images.command(data.pack)
app.command(images)

known = _new_app(
    name="weights", help="List, download, import, run and export weights of other projects.", group="Training"
)
for command in (weights.list_, weights.info, weights.import_, weights.fetch, weights.run, weights.export):
    known.command(command, name=command.__name__.rstrip("_"))
app.command(known)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 0 for success, 2 for a user error, 1 for a failed job, 130 for Ctrl-C and 143 for SIGTERM. Anywhere
    on the command line, ``--debug`` shows the traceback of an error, ``-v`` shows all messages of the logger
    ``triscale``, and ``-q`` shows only results and errors.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take(tokens, "--debug")
    verbose, quiet = _take(tokens, "-v", "--verbose"), _take(tokens, "-q", "--quiet")
    _set_up_logging(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)
    make_printable()
    # cyclopts reads a lone "-" as an option; the same path can be written in another way.
    tokens = ["./-" if token == "-" else token for token in tokens]
    if tokens and tokens[0] in WORDS:
        tokens = [*tokens[1:], WORDS[tokens[0]]]
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except UnknownOptionError as error:
        if debug:
            raise
        option = error.token.keyword or error.token.value
        hint = hint_for(option)
        use = "use " if hint is not None and hint.startswith("--") else ""
        _fail(str(error) if hint is None else f"unknown option {option}; {use}{hint}", 2)
    except CycloptsError as error:
        if debug:
            raise
        _fail(_in_words(error), 2)
    except Interrupted as error:
        if debug:
            raise
        number = received_signal()
        _fail(f"{error}\nto continue: {shlex.join(['triscale', *tokens])}", 128 + number if number else error.exit_code)
    except TriscaleError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _in_words(error: CycloptsError) -> str:
    """Return what is wrong with the arguments of a command."""
    if not isinstance(error, UnusedCliTokensError):
        return str(error)
    unused = list(error.unused_tokens or [])
    fields = all("=" in token for token in unused)
    advice = f"give each field its own option: --set {' --set '.join(unused)}" if fields else "leave it out"
    return f"unexpected {' '.join(unused)}; {advice}"


def _take(tokens: list[str], *flags: str) -> bool:
    """Remove flags from the command line; return whether there were any."""
    present = [token for token in tokens if token in flags]
    for token in present:
        tokens.remove(token)
    return bool(present)


def _set_up_logging(level: int) -> None:
    """Send messages of the logger ``triscale`` to standard error."""
    logger.setLevel(level)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False


def _fail(message: str, code: int) -> None:
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    print(f"triscale: {chr(10).join(lines)}", file=sys.stderr)
    sys.exit(code)
