"""The commands of `trax-ray`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import inspect
import logging
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from trax_ray import __version__
from trax_ray.cli.exits import EXIT_DEFECT, EXIT_SETUP, EXIT_STOPPED, EXIT_USAGE, say_error
from trax_ray.cli.rooms import RoomedCommand
from trax_ray.errors import TraxRayError, UsageError
from trax_ray.logs import FORMATS, log_to_file
from trax_ray.plan.options import OPTIONS

__all__ = ["app", "main"]

NOT_OF_A_JOB = ("address", "lean", "dry_run")
"""Options of a batch that a job has no use for: it runs in the cluster that it is given to."""


app = typer.Typer(
    name="trax-ray",
    help="Transcribe thousands of recordings on Ray: on a laptop or a cluster, with a report you can trust.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    # --chunk_size is --chunk-size: habits of the field differ.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


def main() -> None:
    """Entry point of the command."""
    app()


@contextmanager
def reporting_errors() -> Iterator[None]:
    """One line for every error of ours, and the exit code that goes with it."""
    try:
        yield
    except TraxRayError as error:
        say_error(error)
        raise typer.Exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_SETUP) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_STOPPED) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001 - Python would exit with 1, which means that some input failed
        traceback.print_exc()
        typer.echo(f"trax-ray: this is a defect ({type(error).__name__}): please report it", err=True)
        raise typer.Exit(EXIT_DEFECT) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trax-ray {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Transcribe thousands of recordings on Ray: on a laptop or a cluster, with a report you can trust."""


def _parameters(but: Sequence[str] = ()) -> list[inspect.Parameter]:
    """What Typer makes flags of: a parameter for each row of the table of options that the command line has."""
    made = []
    for option in OPTIONS:
        if not option.flags or option.key in but:
            continue
        kind = list[str] if option.kind is list else option.kind
        more: dict[str, Any] = {
            "help": option.help,
            "show_default": not (option.optional or option.bare),
            "metavar": option.metavar,
        }
        optional = option.optional or bool(option.bare)
        flagged = option.flags[0].startswith("-")
        made.append(
            inspect.Parameter(
                option.key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind | None if optional else kind,
                default=typer.Option(None if option.bare else option.default, *option.flags, **more)
                if flagged
                else typer.Argument(option.default, **more),
            )
        )
    return made


def batch(**given: Any) -> None:
    """Transcribe recordings. The same command again continues where it stopped.

    Exit codes: 0 all succeeded, 1 some input failed for good, 2 bad value or nothing to do, 3 something is
    missing (key, model, cluster, disk), 130 stopped.
    """
    with reporting_errors():
        from trax_ray.cli import batch as command

        verbose = given["verbose"]
        if given["quiet"] and verbose:
            raise UsageError("--quiet and --verbose contradict each other: give one of them")
        if given["json"] and not given["dry_run"]:
            raise UsageError("--json shows a dry run for programs: give --dry-run too, or leave it out")
        logging.basicConfig(
            level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
        )
        if given["log_format"] not in FORMATS:
            raise UsageError(f"--log-format: expected {' or '.join(FORMATS)}, got {given['log_format']}")
        if given["log_file"] is not None:
            log_to_file(given["log_file"], given["log_format"])
        raise typer.Exit(command.run(command.Command.of(given, shlex.join(["trax-ray", *sys.argv[1:]]))))


batch.__signature__ = inspect.Signature(_parameters())  # type: ignore[attr-defined]
app.command(cls=RoomedCommand)(batch)


def submit(**given: Any) -> None:
    """Give a batch to a Ray cluster as a job. What it names must mean the same on every node. The same again continues.

    Exit codes: 0 submitted, 2 bad value; with --follow those of `trax-ray batch`; 3 the cluster can't be reached, or
    the job ended without an exit code.
    """
    with reporting_errors():
        from trax_ray.cli import submit as command

        dashboard, follow = given.pop("dashboard"), given.pop("follow")
        raise typer.Exit(command.run(given, dashboard=dashboard, follow=follow))


def _of_submit() -> list[inspect.Parameter]:
    own = {
        "dashboard": (
            str | None,
            typer.Option(
                None,
                help="http://HOST:8265 of the cluster's dashboard; without it RAY_API_SERVER_ADDRESS, or the head that "
                "`trax-ray up` started.",
                show_default=False,
            ),
        ),
        "follow": (bool, typer.Option(False, "--follow", help="Show the job's output until it ends.")),
    }
    return [
        *_parameters(NOT_OF_A_JOB),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in own.items()
        ),
    ]


submit.__signature__ = inspect.Signature(_of_submit())  # type: ignore[attr-defined]
app.command(cls=RoomedCommand)(submit)


@app.command()
def doctor(
    output_dir: Annotated[
        str, typer.Option("--output-dir", "-o", help="Folder that a batch would write to.")
    ] = "trax_ray_output",
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of the Ray cluster that a batch would join.", show_default=False)
    ] = None,
) -> None:
    """Say what is there, what is missing, and the way out. Takes up to ten seconds where models must be looked for.

    Exit codes: 0 a batch can run, 3 something necessary is missing.
    """
    with reporting_errors():
        from trax_ray.cli.doctor import run as command

        raise typer.Exit(command.run(output_dir, address))


@app.command(short_help="Rebuild the report from the journal and the artifacts.")
def report(
    output_dir: Annotated[str, typer.Argument(metavar="OUT", help="Output folder of a batch.", show_default=False)],
) -> None:
    """Rebuild the report of an output folder from its journal and artifacts. Needs no Ray.

    Exit codes: 0 written, 3 there is no batch in the folder, or the report can't be written.
    """
    with reporting_errors():
        from trax_ray.arrow import spare_pandas

        spare_pandas()
        from trax_ray.report.write import write_report

        written = write_report(output_dir, final=True)
        typer.echo(f"{written['files']} inputs, {written['attempts']} attempts: {written['report']}")


Out = Annotated[str, typer.Argument(metavar="OUT", help="Output folder of a batch.", show_default=False)]


@app.command(short_help="Find what was said: file, time, speaker, words around it.")
def search(
    output_dir: Out,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WORDS",
            help="Words, '\"a phrase\"', begin*, OR, NOT, 'NEAR(one other, 5)'; case and accents don't count.",
            show_default=False,
        ),
    ],
    limit: Annotated[int, typer.Option(help="How many places are shown; 0 shows all.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each place, for programs.")] = False,
) -> None:
    """Find what was said: file, time, speaker and the words around it. Needs no Ray.

    Exit codes: 0 found, 1 nothing found, 2 the words make no sense, 3 there is no report in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import results as command

        raise typer.Exit(command.show_hits(output_dir, words, limit=limit, as_json=as_json))


@app.command(short_help="Hand a report on: jsonl, csv, manifest, docx, textgrid.")
def export(
    output_dir: Out,
    fmt: Annotated[
        str | None,
        typer.Option("--format", "-f", help="jsonl, csv, manifest, docx or textgrid.", show_default=False),
    ] = None,
    destination: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File for jsonl, csv and manifest.  [default: standard output]"),
    ] = None,
    table: Annotated[
        str, typer.Option(help="Whose rows, for jsonl and csv: files, segments, tasks or attempts.")
    ] = "files",
    enhanced: Annotated[
        bool, typer.Option("--enhanced", help="For docx and textgrid: the enhanced text where there is one.")
    ] = False,
) -> None:
    """Hand a report on: as one file, or (docx, textgrid) as files beside the transcripts. Needs no Ray.

    Exit codes: 0 written, 2 a bad value, 3 there is no report in the folder, or something is missing.
    """
    with reporting_errors():
        from trax_ray.cli import results as command

        command.export(output_dir, fmt, destination, table=table, enhanced=enhanced)


@app.command()
def status(
    output_dir: Out,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, for programs.")] = False,
) -> None:
    """Say how a batch stands, whether it is running or not. Needs no Ray.

    Exit codes: 0 said, 3 there is no batch in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.show_status(output_dir, as_json=as_json)


@app.command()
def watch(
    output_dir: Out,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
) -> None:
    """Show a batch's progress until it ends. Ctrl-C ends the watching, not the batch. Needs no Ray.

    Exit codes: 0 it has ended or isn't running, 3 there is no batch in the folder, 130 the watching was interrupted.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        raise typer.Exit(command.watch(output_dir, interval))


@app.command()
def pause(output_dir: Out) -> None:
    """Let nothing start any more; what runs is finished. A batch that isn't running will begin paused. Needs no Ray.

    Exit codes: 0 done, or left for the batch to find; 3 there is no batch in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.pause(output_dir)


@app.command(short_help="Let a batch go on that is paused, parked or interrupted.")
def resume(output_dir: Out) -> None:
    """Let a paused or parked batch go on; run the command of a batch again that isn't running.

    Exit codes: 0 it goes on; where its command was run again, those of `trax-ray batch`; 3 there is no batch in the
    folder, or no command that could be run again.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        raise typer.Exit(command.resume(output_dir))


@app.command(short_help="End a batch; what was finished is kept.")
def stop(output_dir: Out) -> None:
    """End a batch; what was finished is kept, and `trax-ray resume` goes on from there. Needs no Ray.

    Exit codes: 0 done, left for the batch to find, or nothing to stop; 3 there is no batch in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.stop(output_dir)


@app.command("retry-failed", short_help="Have inputs that failed for good done again.")
def retry_failed(output_dir: Out) -> None:
    """Have inputs that failed for good done again: at once, or in the next run. Needs no Ray.

    Exit codes: 0 done, left for the batch to find, or nothing has failed; 3 there is no batch in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.retry_failed(output_dir)


@app.command(short_help="Take away what no later run needs.")
def clean(
    output_dir: Out,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="Also the journal and the artifacts: transcripts and report stay, and a later run begins anew.",
        ),
    ] = False,
) -> None:
    """Take away what no later run needs: leftovers of crashes, damaged artifacts, converted audio. Needs no Ray.

    Exit codes: 0 done, 3 there is no batch in the folder, or it is running.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.clean_up(output_dir, everything=everything)


@app.command(short_help="Start Ray and let it stay: batches begin ten seconds sooner.")
def up(
    lean: Annotated[bool, typer.Option("--lean", help="Without the dashboard: less memory.")] = False,
) -> None:
    """Start Ray on this machine and let it stay, so that batches begin sooner: they join it.

    Exit codes: 0 it is up, 3 Ray doesn't start.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.start_head(lean=lean)


@app.command(short_help="End the Ray that `trax-ray up` started.")
def down(
    force: Annotated[
        bool, typer.Option("--force", help="Also where a batch works on it; what is finished stays.")
    ] = False,
) -> None:
    """End the Ray that `trax-ray up` started, and what dead batches left of theirs; nobody else's. Needs no Ray.

    Exit codes: 0 done, or nothing is running; 3 a batch works on it.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.end_head(force=force)
