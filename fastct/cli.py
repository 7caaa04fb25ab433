"""The command line: `fastct run SRC STORE` and its parts."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fastct import __version__
from fastct.errors import FastctError, OptionError
from fastct.options import CODECS, POOLS, ConvertOptions, RunOptions, choose, field_names
from fastct.progress import Reporter

EXIT_FAULTS, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
DEMO_STUDIES = 8
Command = Callable[..., Any]


def main() -> None:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: the same command goes on from here", err=True)
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except OptionError as error:
        click.echo(f"Error: {error}", err=True)
        code = EXIT_USAGE
    except FastctError as error:
        click.echo(f"Error: {error}", err=True)
        code = EXIT_FAULTS
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone, and needs no more of it
        code = EXIT_FAULTS
    except OSError as error:
        click.echo(
            f"Error: {error.filename or 'this machine'}: {error.strerror or error}. Check path and rights.", err=True
        )
        code = EXIT_FAULTS
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Chest CT from gzip NIfTI to scores and training batches at the speed of memory."""


def quiet_options(command: Command) -> Command:
    """--json, -q and -v."""
    command = click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout, all else on stderr.")(command)
    command = click.option("-q", "--quiet", is_flag=True, help="Only failures and errors.")(command)
    return click.option("-v", "--verbose", is_flag=True, help="A line for every study.")(command)


def storage_option(command: Command) -> Command:
    """--storage-options."""
    text = "JSON object: what opening URLs takes, as obstore or fsspec have it."
    return click.option("--storage-options", callback=_json_object, default="{}", metavar="JSON", help=text)(command)


POOL_HELP = "What workers are: threads start at once, and die together."
DEVICE_HELP = "Where studies are scored: auto (GPUs if there are any), cpu, cuda (all GPUs) or cuda:N."


def run_options(command: Command) -> Command:
    """The options that RunOptions holds."""
    for option in reversed(
        (
            click.option("-j", "--workers", type=click.IntRange(0), default=0, help="How many; 0: one a core."),
            click.option("--pool", type=click.Choice(POOLS), default=POOLS[0], show_default=True, help=POOL_HELP),
            click.option("--device", default="auto", show_default=True, help=DEVICE_HELP),
            click.option("--scheduler", default="", metavar="ADDRESS", help="A running Dask scheduler."),
            _seconds("worker_wait_s", "--worker-wait", "How long that cluster may be without workers."),
            _seconds("study_limit_s", "--study-limit", "A study that takes longer fails."),
            click.option("--resume/--no-resume", default=True, help="Leave out what an earlier run finished."),
            click.option("--overwrite", is_flag=True, help="Do every study again."),
            click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        )
    ):
        command = option(command)
    return quiet_options(storage_option(command))


def _seconds(field: str, name: str, text: str) -> Command:
    """An option in seconds that RunOptions holds."""
    default = getattr(RunOptions, field)
    return click.option(name, field, type=float, default=default, metavar="SECONDS", show_default=True, help=text)


def _json_object(ctx: click.Context, param: click.Parameter, value: str) -> dict[str, Any]:
    """The JSON object that an option was given, or a usage error."""
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("it is no JSON object", ctx, param)
    return found


limit_option = click.option(
    "--limit-bytes",
    type=click.IntRange(1),
    default=ConvertOptions.limit_bytes,
    show_default=True,
    help="Memory that a file may take, inflated and as int16: what promises more is refused.",
)
CODEC_HELP = "How chunks are coded: ctpack decodes fastest; Zarr readers without fastct open the others."
codec_option = click.option("--codec", type=click.Choice(CODECS), default=CODECS[0], show_default=True, help=CODEC_HELP)


@cli.command()
@click.argument("src", type=click.Path())
@click.argument("store", type=click.Path())
@codec_option
@limit_option
@run_options
def run(src: str, store: str, **options: Any) -> None:
    """The main job: convert, lung masks, lesion percentages, severity, report.

    SRC is a MosMedData root, any folder of .nii.gz or .nii volumes (lesion masks in masks/, or beside them as
    NAME_mask.nii.gz), or one file. STORE is a new folder, or a store from before. Both may be URLs.
    """
    reporter = _reporter(options)
    _run(src, store, reporter, options)
    _leave(reporter)


def _run(src: str, store: str, reporter: Reporter, options: dict[str, Any]) -> None:
    from fastct import pipeline, reporting
    from fastct.schedule import Crew

    run = {name: options[name] for name in field_names(RunOptions)}
    with Crew(choose(RunOptions, run), reporter.workforce) as crew:
        shared: dict[str, Any] = {"on_event": reporter.event, "crew": crew}
        with reporter.stage("convert"):
            reporter.summary(pipeline.convert(src, store, **shared, **options))
        if run["dry_run"]:
            return
        with reporter.stage("score"):
            reporter.summary(pipeline.score(store, **shared, **run))
    with reporter.stage("report"):
        written = reporting.write_report(store, run["storage_options"])
    reporter.wrote("report", written)


@cli.command()
@click.argument("src", type=click.Path())
@click.argument("store", type=click.Path())
@codec_option
@limit_option
@run_options
def convert(src: str, store: str, **options: Any) -> None:
    """Convert .nii.gz volumes to a Zarr store, without loss.

    SRC and STORE are as for `fastct run`.
    """
    from fastct import pipeline
    from fastct.schedule import Crew

    reporter = _reporter(options)
    with Crew(choose(RunOptions, options), reporter.workforce) as crew, reporter.stage("convert"):
        reporter.summary(pipeline.convert(src, store, on_event=reporter.event, crew=crew, **options))
    _leave(reporter)


@cli.command()
@click.argument("store", type=click.Path())
@run_options
def score(store: str, **options: Any) -> None:
    """Lung mask and lesion percentage of every study of a store."""
    from fastct import pipeline
    from fastct.schedule import Crew

    reporter = _reporter(options)
    with Crew(choose(RunOptions, options), reporter.workforce) as crew, reporter.stage("score"):
        reporter.summary(pipeline.score(store, on_event=reporter.event, crew=crew, **options))
    _leave(reporter)


@cli.command()
@click.argument("store", type=click.Path())
@storage_option
@quiet_options
def report(store: str, **options: Any) -> None:
    """Write one self-contained report.html into the store."""
    from fastct import reporting

    reporter = _reporter(options)
    with reporter.stage("report"):
        written = reporting.write_report(store, options["storage_options"])
    reporter.wrote("report", written)


@cli.command()
@click.argument("store", type=click.Path())
@click.option("--repair", is_flag=True, help="Do again what has a fault, and nothing else.")
@click.option("--source", type=click.Path(), help="Where the sources lie now, for --repair.")
@storage_option
@quiet_options
def verify(store: str, **options: Any) -> None:
    """Check every byte of a store; a line for each fault. With --repair: for each that is left."""
    from fastct.verification import verify as check

    reporter = _reporter(options)
    with reporter.stage("verify"):
        faults = check(store, on_event=reporter.event, **options)
    reporter.faults(faults, repaired=options["repair"])
    if faults:
        raise click.exceptions.Exit(EXIT_FAULTS)


@cli.command()
@click.argument("path", type=click.Path())
@storage_option
@quiet_options
def info(path: str, **options: Any) -> None:
    """Say what a store, a data set or one .nii.gz holds."""
    from fastct.describe import as_lines, describe

    reporter = _reporter(options)
    facts = describe(path, options["storage_options"])
    reporter.facts(facts, as_lines(facts))


@cli.command()
@click.argument("store", type=click.Path())
@click.argument("study")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--label", type=click.Choice(["lung", "lesion"]), help="A label instead of the volume.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@storage_option
@quiet_options
def export(store: str, study: str, file: Path, label: str | None, overwrite: bool, **options: Any) -> None:
    """Write a study's volume, or a label of it, as NIfTI."""
    from fastct.exporting import export_study
    from fastct.store import open as open_store

    reporter = _reporter(options)
    export_study(open_store(store, options["storage_options"])[study], file, label=label, overwrite=overwrite)
    reporter.wrote("export", file)


@cli.command()
@click.argument("store", type=click.Path())
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@storage_option
@quiet_options
def compare(store: str, first: str, second: str, **options: Any) -> None:
    """What changed from study A to study B of one patient; and a page with both, side by side, in the store."""
    from fastct import comparison

    reporter = _reporter(options)
    pair = (store, first, second, options["storage_options"])
    found = comparison.compare(*pair)
    reporter.facts(found.facts(), found.lines())
    reporter.wrote("compare", comparison.write_comparison(*pair))


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--studies", type=click.IntRange(1), default=DEMO_STUDIES, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same bytes.")
@click.option("-j", "--workers", type=click.IntRange(0), default=0, help="Threads; 0: one a core.")
@click.option("--overwrite", is_flag=True, help="Replace a phantom data set that is there.")
@quiet_options
def phantom(folder: Path, studies: int, seed: int, **options: Any) -> None:
    """Write a synthetic data set in MosMedData's layout, with its truth.csv."""
    _phantom(folder, studies, seed, _reporter(options), options)


def _phantom(folder: Path, studies: int, seed: int, reporter: Reporter, options: dict[str, Any]) -> None:
    from fastct.phantom import iter_phantoms
    from fastct.pipeline import Event

    threads = choose(RunOptions, {"workers": options["workers"]}).worker_count
    rows = iter_phantoms(folder, studies, seed, workers=threads, overwrite=options["overwrite"])
    with reporter.stage("phantom"):
        for number, row in enumerate(rows, 1):
            reporter.event(Event("phantom", row.study_id, "done", "", 0, number, studies))
    reporter.wrote("phantom", folder)


@cli.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default="fastct-demo")
@click.option("--studies", type=click.IntRange(1), default=DEMO_STUDIES, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same bytes.")
@run_options
def demo(folder: Path, studies: int, seed: int, **options: Any) -> None:
    """A synthetic data set, and the main job on it; in under a minute."""
    reporter = _reporter(options)
    phantoms, store = folder / "phantoms", folder / "store"
    _phantom(phantoms, studies, seed, reporter, {**options, "overwrite": True})
    _run(str(phantoms), str(store), reporter, options)
    _leave(reporter)


def _reporter(options: dict[str, Any]) -> Reporter:
    """The reporter that the options ask for; takes its own options out of them."""
    return Reporter(options.pop("as_json"), options.pop("quiet"), options.pop("verbose"))


def _leave(reporter: Reporter) -> None:
    if reporter.failures:
        raise click.exceptions.Exit(EXIT_FAULTS)
