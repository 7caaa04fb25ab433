"""fastct beside its peers, as Markdown: `python -m benchmarks.peers [STAGE ...]`, in the root of the repository."""

import os
import sys
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from pathlib import Path

import click

# Libraries read these once, when they are imported: everybody gets a single thread.
SINGLE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
STAGES = tuple(sorted(path.stem.removeprefix("peers_") for path in Path(__file__).parent.glob("peers_*.py")))


@click.command()
@click.argument("stages", nargs=-1, type=click.Choice(STAGES))
@click.option("--ct", type=click.Path(exists=True, path_type=Path), help="A .nii.gz to work on, in place of a phantom.")
@click.option("--work", default="", help="Only the cases whose name holds this.")
@click.option("--budget", "budget_s", default=5.0, help="Seconds for each case.")
def main(stages: Sequence[str], ct: Path | None, work: str, budget_s: float) -> None:
    """Time fastct beside its peers; exit with 1 where results differ that should not."""
    os.environ.update(dict.fromkeys(SINGLE_THREAD, "1"))
    from benchmarks.common import processor, subject
    from benchmarks.comparing import compare, table, versions

    chosen = subject(ct)
    print(f"{date.today()}, {processor()}, {chosen.hu.shape} of {ct.name if ct else 'a phantom'}\n")
    agree = True
    for stage in stages or STAGES:
        cases = [case for case in import_module(f"benchmarks.peers_{stage}").cases(chosen) if work in case.work]
        rows = [row for case in cases for row in compare(case, budget_s)]
        print(f"### {stage}\n\n{versions(cases)}\n\n{table(rows)}\n")
        agree = agree and all(row.agrees for row in rows)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
