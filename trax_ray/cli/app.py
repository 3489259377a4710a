"""The commands of `trax-ray`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import logging
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from trax_ray import __version__
from trax_ray.core.spec import (
    DEFAULT_CPU_LIMIT_PERCENT,
    DEFAULT_MEMORY_LIMIT_MB,
    DEFAULT_PROGRESS_INTERVAL,
    DEFAULT_WORKERS,
    OUTPUT_FORMATS,
)
from trax_ray.errors import TraxRayError, UsageError

__all__ = ["app", "main"]

EXIT_USAGE = 2
EXIT_SETUP = 3
EXIT_DEFECT = 70

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
        from trax_ray.report.text import one_line

        # Messages hold names, and names may hold line ends and what moves a terminal's cursor.
        typer.echo(f"trax-ray: {one_line(error.message)}", err=True)
        raise typer.Exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_SETUP) from None
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


@app.command()
def batch(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Recordings, folders, quoted patterns such as 'talks/**/*.mp3', manifests (.csv, .jsonl or .parquet "
            "with a column file_name; language, priority, model, prompt and reference hold for their row), or - for a "
            "list of paths on standard input. Names that begin with a dash come after --.",
            show_default=False,
        ),
    ] = None,
    input_list: Annotated[
        list[str] | None,
        typer.Option(
            "--input-list",
            "-a",
            help="File with one path per line (or NUL between them), or a manifest; - is standard input; may be "
            "repeated. Paths are relative to the list's folder.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Tasks that run at the same time; a ceiling, not a promise.")
    ] = DEFAULT_WORKERS,
    progress_interval: Annotated[
        float, typer.Option(help="Seconds between progress reports.")
    ] = DEFAULT_PROGRESS_INTERVAL,
    memory_limit: Annotated[
        int, typer.Option(help="MB per node for the batch's own processes.")
    ] = DEFAULT_MEMORY_LIMIT_MB,
    cpu_limit: Annotated[
        int, typer.Option(help="Percent of a node's cores that tasks may take, 1-100.")
    ] = DEFAULT_CPU_LIMIT_PERCENT,
    model: Annotated[
        str | None,
        typer.Option(
            help="Speech model: tiny.en, tiny ... large-v3, turbo or a folder (faster-whisper), whisper-1 (OpenAI), "
            "pocketsphinx (offline, English, rough). Without it: whisper-1 where a key is set, else base where its "
            "weights are at hand or can be had, else tiny.en where it is at hand and the language may be English.",
            show_default=False,
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="Address of a server that speaks OpenAI's protocol, such as http://host:8000/v1; it has any --model.",
            show_default=False,
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            help="US dollars: no paid request starts once so much would be spent; the batch can be continued.",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Language code such as en; detected if not given.", show_default=False)
    ] = None,
    vad: Annotated[
        str,
        typer.Option(help="How readily sound counts as speech: off (all of it does), low, normal or high."),
    ] = "normal",
    chunk_size: Annotated[int, typer.Option(help="Longest stretch transcribed in one attempt, seconds.")] = 600,
    output_dir: Annotated[
        str, typer.Option("--output-dir", "-o", help="Folder for transcripts and report. The same again continues.")
    ] = "trax_ray_output",
    output_format: Annotated[
        list[str] | None,
        typer.Option(
            "--output-format",
            "-f",
            help=f"{', '.join(OUTPUT_FORMATS)} or all; may be repeated.  [default: all]",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Folder of reference transcripts (NAME.txt) to measure accuracy against.", show_default=False
        ),
    ] = None,
    max_retries: Annotated[int, typer.Option(help="Attempts after the first one.")] = 3,
    priority: Annotated[int, typer.Option(help="0 highest, 1-5 high, 6-10 normal, 11 and above low.")] = 0,
    initial_prompt: Annotated[
        str | None, typer.Option(help="Text that primes the model (Whisper models).", show_default=False)
    ] = None,
    word_timestamps: Annotated[bool, typer.Option("--word-timestamps", help="Word times in the JSON output.")] = False,
    task_timeout: Annotated[
        float | None,
        typer.Option(help="Longest time that one attempt may take, seconds.  [default: no limit]", show_default=False),
    ] = None,
    start_at: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Start nothing before: '2026-11-21 22:00', or 22:00 for the next one.  [default: at once]",
            show_default=False,
        ),
    ] = None,
    only_between: Annotated[
        str | None,
        typer.Option(
            metavar="HH:MM-HH:MM",
            help="Hours of the day in which attempts may start, such as 22:00-06:00.  [default: all]",
            show_default=False,
        ),
    ] = None,
    preprocess: Annotated[
        bool, typer.Option("--preprocess", help="Convert recordings to 16 kHz mono FLAC first, and transcribe that.")
    ] = False,
    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="With --preprocess: keep the converted audio, in OUT/audio.")
    ] = False,
    enhance: Annotated[bool, typer.Option("--enhance", help="Also enhance transcripts after transcription.")] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a Ray cluster; without it RAY_ADDRESS, a local head, or a new one.", show_default=False
        ),
    ] = None,
    lean: Annotated[bool, typer.Option("--lean", help="Start a local Ray without its dashboard: less memory.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and the exit code only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Debug messages on stderr.")] = False,
) -> None:
    """Transcribe recordings. The same command again continues where it stopped.

    Exit codes: 0 all succeeded, 1 some input failed for good, 2 bad value or nothing to do, 3 something is
    missing (key, model, cluster, disk), 130 stopped.
    """
    with reporting_errors():
        from trax_ray.cli import batch as command

        if quiet and verbose:
            raise UsageError("--quiet and --verbose contradict each other: give one of them")
        logging.basicConfig(
            level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
        )
        options = command.Options(
            inputs=tuple(inputs or ()),
            lists=tuple(input_list or ()),
            workers=workers,
            progress_interval=progress_interval,
            memory_limit=memory_limit,
            cpu_limit=cpu_limit,
            model=model,
            base_url=base_url,
            max_cost=max_cost,
            language=language,
            vad=vad,
            chunk_size=chunk_size,
            output_dir=output_dir,
            formats=tuple(output_format or ("all",)),
            reference=reference,
            max_retries=max_retries,
            priority=priority,
            initial_prompt=initial_prompt,
            word_timestamps=word_timestamps,
            enhance=enhance,
            address=address,
            lean=lean,
            dry_run=dry_run,
            quiet=quiet,
            again=shlex.join(["trax-ray", *sys.argv[1:]]),
            task_timeout=task_timeout,
            start_at=start_at,
            only_between=only_between or "",
            preprocess=preprocess,
            keep_audio=keep_audio,
        )
        raise typer.Exit(command.run(options))


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
        from trax_ray.cli import doctor as command

        raise typer.Exit(command.run(output_dir, address))


@app.command()
def report(
    output_dir: Annotated[str, typer.Argument(metavar="OUT", help="Output folder of a batch.", show_default=False)],
) -> None:
    """Rebuild the report of an output folder from its journal and artifacts. Needs no Ray.

    Exit codes: 0 written, 3 there is no batch in the folder, or the report can't be written.
    """
    with reporting_errors():
        from trax_ray.report.write import write_report

        written = write_report(output_dir, final=True)
        typer.echo(f"{written['files']} inputs, {written['attempts']} attempts: {written['report']}")


Out = Annotated[str, typer.Argument(metavar="OUT", help="Output folder of a batch.", show_default=False)]


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


@app.command()
def resume(output_dir: Out) -> None:
    """Let a paused or parked batch go on; run the command of a batch again that isn't running.

    Exit codes: 0 it goes on; where its command was run again, those of `trax-ray batch`; 3 there is no batch in the
    folder, or no command that could be run again.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        raise typer.Exit(command.resume(output_dir))


@app.command()
def stop(output_dir: Out) -> None:
    """End a batch; what was finished is kept, and `trax-ray resume` goes on from there. Needs no Ray.

    Exit codes: 0 done, left for the batch to find, or nothing to stop; 3 there is no batch in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.stop(output_dir)


@app.command("retry-failed")
def retry_failed(output_dir: Out) -> None:
    """Have inputs that failed for good done again: at once, or in the next run. Needs no Ray.

    Exit codes: 0 done, left for the batch to find, or nothing has failed; 3 there is no batch in the folder.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.retry_failed(output_dir)


@app.command()
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


@app.command()
def up(
    lean: Annotated[bool, typer.Option("--lean", help="Without the dashboard: less memory.")] = False,
) -> None:
    """Start Ray on this machine and let it stay, so that batches begin sooner: they join it.

    Exit codes: 0 it is up, 3 Ray doesn't start.
    """
    with reporting_errors():
        from trax_ray.cli import control as command

        command.start_head(lean=lean)


@app.command()
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
