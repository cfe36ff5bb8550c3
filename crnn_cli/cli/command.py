"""What all commands have in common: their help, options that stand anywhere, errors in one line, exit codes."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from crnn_cli import notices
from crnn_cli.cli import console
from crnn_cli.cli.options import NETWORK, OUTPUT, RELIABILITY
from crnn_cli.cli.remedies import HOMES, spell_option
from crnn_cli.errors import EXIT_INTERRUPTED, CrnnError, Param, UsageError
from crnn_cli.workflows.failures import describe_error

EXIT_PIPE = 141
"""The reader closed the pipe: 128 + SIGPIPE, as of other programs in a pipe. Nothing is said."""

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
JsonBefore = Annotated[bool, typer.Option("--json", help="Print JSON, as the same option of the command does.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details.")]

Strict = Annotated[
    bool,
    typer.Option(
        "--strict", rich_help_panel=RELIABILITY, help="End with code 4 at the first doubt; nothing is written then."
    ),
]  # fmt: skip

Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, max=1024, metavar="INTEGER", rich_help_panel=NETWORK,
        help="Threads on the CPU (default: all cores). As many as a report names repeat its bytes on the same CPU.",
    ),
]  # fmt: skip
_COMPUTING = {
    "reconstruct", "segment", "compare", "function", "forecast", "events",
    "batch_reconstruct", "batch_segment", "batch_function",
}  # fmt: skip
"""Commands with the option ``--threads``."""
_DOUBTING = {
    "reconstruct",
    "segment",
    "labels",
    "batch_function",
    "batch_reconstruct",
    "batch_segment",
    "compare",
    "convert",
    "evaluate",
    "events",
    "forecast",
    "function",
    "verify",
}
"""Commands whose doubts can be made errors by ``--strict``."""
_GONE = {
    "--uneven": "--slice-tolerance", "--noise": "--noise-ratio", "--held-out": "--hold-out-folds", "--weight":
    "--regularisation", "--like": "--reference-dicom", "--like-series": "--reference-series",
}  # fmt: skip
_TypedWrongly: Any = typer.BadParameter.__base__  # the usage error of click, or of the click inside typer
_JSON = "crnn.json"
_METAVARS = {Path: "FILE", str: "TEXT", int: "INTEGER", float: "FLOAT"}


def declared(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its common options, record its doubts, and end each kind of failure with one line and a code."""

    @functools.wraps(command)
    def run(*arguments: Any, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
        console.set_verbosity(quiet, verbose)
        with notices.recording(strict=options.pop("strict", False)), _threads(options.pop("threads", None)):
            with_errors(command)(*arguments, **options)

    hints = get_type_hints(command, include_extras=True)
    own = [each.replace(annotation=hints.get(each.name, each.annotation)) for each in _parameters(command)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter(name, keyword, default=False, annotation=annotation)
        for name, annotation in (("quiet", Quiet), ("verbose", Verbose))
    ]
    if command.__name__ in _DOUBTING:
        common.insert(0, inspect.Parameter("strict", keyword, default=False, annotation=Strict))
    if command.__name__ in _COMPUTING:
        common.insert(0, inspect.Parameter("threads", keyword, default=None, annotation=Threads))
    vars(run)["__signature__"] = inspect.Signature([*own, *common])
    return run


def _threads(count: int | None) -> AbstractContextManager[None]:
    """Compute with so many threads; nothing is loaded where no number was given."""
    if count is None:
        return nullcontext()
    from crnn_cli.compute.threads import limited_threads

    return limited_threads(count)


def with_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn failures into one clear line and the exit code of their kind; defects of the program stay tracebacks."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise console.stop("interrupted; nothing half-written was left", EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            console.close_stdout()
            raise typer.Exit(EXIT_PIPE) from None
        except Exception as error:
            described = describe_error(error, functools.partial(spell_in, command))
            if described is None:
                raise
            if isinstance(error, OSError):
                console.close_stdout()
            raise console.stop(*described) from None

    return run


def spell_in(command: Callable[..., None], param: Param) -> str:
    """Spell a parameter as an option, and name the command that has it where the one that ended has not."""
    text = spell_option(param)
    home = HOMES.get(text.split()[0])
    return text if home is None or text.split()[0] in _options_of(command) else f"{text} of crnn {home}"


def _options_of(command: Callable[..., None]) -> set[str]:
    """Names of the options that a command declares itself."""
    hints = get_type_hints(command, include_extras=True)
    infos = [
        info for name in inspect.signature(command).parameters for info in getattr(hints[name], "__metadata__", ())
    ]
    # typer reads the first name of an option that stands in Annotated as its default
    names = [name for info in infos for name in (info.default, *(info.param_decls or ()))]
    return {name for name in names if isinstance(name, str) and name.startswith("-")}


def common_options(
    ctx: typer.Context, quiet: Quiet = False, verbose: Verbose = False, as_json: JsonBefore = False
) -> None:
    """Note the options that stand before the command."""
    console.set_verbosity(quiet, verbose)
    if as_json:
        ctx.meta[_JSON] = True


class Command(TyperCommand):
    """A command whose help reads well in a terminal, and whose usage errors are one line with the nearest option."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.help = _joined(self.help or "")
        panels = {getattr(each, "rich_help_panel", None) for each in self.params}
        self._panel = OUTPUT if OUTPUT in panels else None
        for each in self.params:
            _make_readable(each)
            if each.name in ("quiet", "verbose"):
                vars(each)["rich_help_panel"] = self._panel

    def get_help_option(self, ctx: Any) -> Any:
        """The option ``--help``, in the panel of the output options."""
        option = super().get_help_option(ctx)
        if option is not None:
            _make_readable(option)
            option.rich_help_panel = self._panel
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, each example on a line of its own."""
        plain, self.help = self.help, _with_examples_in_lines(self.help or "")
        try:
            super().format_help(ctx, formatter)
        finally:
            self.help = plain

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; ``--json`` may have stood before the command."""
        names = [name for each in self.params for name in each.opts if name.startswith("--")]
        try:
            if ctx.meta.get(_JSON) and not ctx.resilient_parsing:
                if "--json" not in names:
                    raise UsageError(f"{ctx.command_path} prints no JSON: leave --json out")
                args = ["--json", *args]
            return super().parse_args(ctx, args)
        except (CrnnError, _TypedWrongly) as error:
            raise _stop_usage(error, ctx, names) from None


class Group(TyperGroup):
    """A group of commands with usage errors in one line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; what typer adds by itself is made readable too."""
        for each in self.get_params(ctx):
            _make_readable(each)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options in front of the command."""
        try:
            return super().parse_args(ctx, args)
        except _TypedWrongly as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                raise
            raise _stop_usage(error, ctx, [name for each in self.params for name in each.opts]) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named."""
        try:
            return super().resolve_command(ctx, args)
        except _TypedWrongly as error:
            raise _stop_usage(error, ctx, []) from None


def _stop_usage(error: Any, ctx: Any, names: list[str]) -> typer.Exit:
    """The end of a command that was called wrongly: one line, and where to read on."""
    if isinstance(error, CrnnError):
        return console.stop(error.render(spell_option), error.exit_code)
    given = getattr(error, "option_name", None)
    if given is None or not hasattr(error, "possibilities"):
        text = error.format_message().rstrip()
    else:
        renamed = _GONE.get(given) if _GONE.get(given) in names else None
        near = [renamed] if renamed else get_close_matches(given, names, 1)
        text = f"No such option: {given}" + (f"; did you mean {near[0]}?" if near else "")
    flat = re.sub(r"\s+", " ", text)
    closed = flat if flat.endswith((".", "?", "!")) else f"{flat}."
    return console.stop(f"{closed} Try {ctx.command_path} --help", UsageError.exit_code)


def _make_readable(param: Any) -> None:
    """Show the type of a parameter as people read it: nothing of a flag, no ``[0<=x<=4611686018427387904]``."""
    if param.param_type_name == "argument":
        param.metavar = (param.metavar or param.name).upper()
        usage = (param.metavar if param.required else f"[{param.metavar}]") + ("..." if param.nargs != 1 else "")
        vars(param)["display_type_rich"] = lambda ctx: ""
        vars(param)["get_usage_pieces"] = lambda ctx: [usage]
    elif getattr(param, "is_flag", False):
        param.metavar = ""
    elif param.metavar is None:
        annotation: Any = getattr(getattr(param, "type_descriptor", None), "annotation", None)
        param.metavar = _METAVARS.get(annotation)
    if param.metavar is not None and hasattr(param, "_get_number_range_help_str"):
        vars(param)["_get_number_range_help_str"] = lambda: None


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _joined(text: str) -> str:
    """Paragraphs without line breaks of their own, for any width of the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def _with_examples_in_lines(text: str) -> str:
    def lines(match: re.Match[str]) -> str:
        return "\n".join([match[1], *(f"  {each.strip()}" for each in match[2].split(";"))])

    return re.sub(r"^(Examples?:) (.*)$", lines, text, flags=re.M)
