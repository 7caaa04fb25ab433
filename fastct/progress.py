"""What the command line says while it works: progress bars on a terminal, JSON lines for programs, failures always."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:  # only named in annotations: `fastct --help` need not import the kernels
    from fastct.integrity import Fault
    from fastct.mosmed import Listing
    from fastct.pipeline import Event, Summary
    from fastct.schedule import Workforce

NAMED = 5  # so many names stand in a line before "and N more"
MB = 1e6


class Reporter:
    """Takes events and results of the jobs, and tells them to a person or a program.

    Failures are always told on stderr; `as_json` puts one JSON object a line on stdout; `quiet` leaves out all but
    failures; `verbose` adds a line for every study.
    """

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.as_json, self.quiet, self.verbose = as_json, quiet, verbose
        self.failures = 0
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._bytes, self._started, self._failed = 0, 0.0, 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the progress of a stage while it runs."""
        self._started, self._bytes, self._failed = monotonic(), 0, 0
        lines_there_too = self.as_json and sys.stdout.isatty()
        if self.quiet or lines_there_too or not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        # What is written to stdout is for a program, and stays there: by default it would go where the bar is.
        with Progress(*columns, console=self._console, redirect_stdout=False) as self._bar:
            self._task = self._bar.add_task(name, total=None, rate="")
            yield
        self._bar = None

    def workforce(self, who: Workforce) -> None:
        """Those who will do the work are there."""
        if self.as_json:
            self._json({"event": "workers", **who._asdict()})
        if not self.quiet and who.kind != "this process":
            dashboard = f", dashboard at {who.dashboard}" if who.dashboard else ""
            self._say(f"workers: {who.workers} ({who.kind}){dashboard}")

    def event(self, event: Event) -> None:
        """One study has ended a stage."""
        self._bytes += event.size_bytes
        failed = event.status == "failed"
        self._failed += failed
        if self._bar is not None and self._task is not None:
            megabytes_per_s = self._bytes / MB / max(monotonic() - self._started, 1e-3)
            rate = f"{megabytes_per_s:.0f} MB/s" if self._bytes else ""
            rate += f", {self._failed} failed" if self._failed else ""
            self._bar.update(self._task, completed=event.done, total=event.total, rate=rate)
        if self.as_json:
            self._json({"event": "study", **asdict(event)})
        if failed:
            self._say(f"failed: {event.study_id}: {event.error}")
        elif self.verbose:
            self._say(f"{event.stage}: {event.study_id}: {event.status} ({event.done} of {event.total})")

    def summary(self, summary: Summary) -> Summary:
        """A stage has ended."""
        self.failures += len(summary.failed)
        if summary.listing is not None:
            self._listing(summary.listing)
        if self.as_json:
            counted = ("done", "failed", "skipped", "planned")
            self._json(
                {"event": "stage", "stage": summary.stage, **{key: list(getattr(summary, key)) for key in counted}}
            )
        if self.quiet:
            return summary
        if summary.planned:
            self._say(f"{summary.stage}: would do {_named(summary.planned)}")
        skipped = f", {len(summary.skipped)} done before" if summary.skipped else ""
        failed = f", {len(summary.failed)} failed" if summary.failed else ""
        seconds = monotonic() - self._started
        self._say(f"{summary.stage}: {len(summary.done)} done{failed}{skipped} in {seconds:.1f} s")
        return summary

    def faults(self, faults: Sequence[Fault], *, repaired: bool) -> None:
        """A check has ended, or a repair: a line for each fault, and what a repair may do about them."""
        for fault in faults:
            if self.as_json:
                self._json({"event": "fault", **asdict(fault)})
            self._say(f"fault: {fault}")
        if not self.quiet:
            mending = sum(bool(fault.redo) for fault in faults)
            cure = f"; --repair does {mending} of them again" if mending and not repaired else ""
            self._say(f"verify: {len(faults) or 'no'} fault{'s' if len(faults) != 1 else ''}{cure}")

    def facts(self, facts: Mapping[str, Any], lines: Mapping[str, str]) -> None:
        """What something holds, on stdout: as values for a program, or as lines for a person."""
        if self.as_json:
            self._json(facts)
            return
        width = max(len(name) for name in lines)
        for name, value in lines.items():
            click.echo(f"{name:<{width}}  {value}")

    def wrote(self, what: str, path: Path | str) -> None:
        """Something was written."""
        if self.as_json:
            self._json({"event": what, "path": str(path)})
        if not self.quiet:
            self._say(f"{what}: wrote {path}")

    def _listing(self, listing: Listing) -> None:
        told = {
            "named by the registry, but not on disk": listing.missing,
            "on disk, but not in the registry": listing.unlisted,
            "masks without a volume": listing.orphan_masks,
        }
        for finding, names in told.items():
            if names and self.as_json:
                self._json({"event": "listing", "finding": finding, "names": list(names)})
            if names and not self.quiet:
                self._say(f"note: {finding} ({len(names)}): {_named(names)}")
        for note in listing.notes:
            if not self.quiet:
                self._say(f"note: {note}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _json(self, fields: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
