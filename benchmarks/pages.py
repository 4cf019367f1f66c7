"""What the pages of features take, crdetect's and those of the peer, ``numina-crmasks``.

Both programs run on the same exposures without pages and with all of them; the difference is
what the pages take. See README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.table import Table
from run import (
    PEER,
    US,
    Bench,
    Result,
    commands,
    console,
    machine,
    prepare,
    read_options,
    rows_and_columns,
)

METHOD = "mm_lacosmic"  # the peer's mm_pycosmic needs a package that is not on PyPI
SHAPE = (700, 900)
WITHOUT, WITH = "without pages", "all pages"
JOBS = {WITHOUT: METHOD, WITH: f"{METHOD}_pages"}  # names of params files
ALLOWED_S, ALLOWED_FEATURES = 40.0, 200


def features_in(folder: Path) -> int:
    """Count the features in the tables of a run."""
    rows = (
        row.split(",")[0]
        for table in folder.glob("mediancr_identified_*.csv")
        for row in table.read_text().splitlines()[1:]
    )
    return len(set(rows))


def report(program: str, results: dict[str, Result], features: int, table: Table) -> float:
    """Add a row; return the processor time of a feature, in seconds."""
    without, with_pages = (results[name].cost for name in JOBS)
    wall, cpu = with_pages.wall_s - without.wall_s, with_pages.cpu_s - without.cpu_s
    table.add_row(
        program,
        str(features),
        f"{without.wall_s:.1f}",
        f"{with_pages.wall_s:.1f}",
        f"{wall / features:.3f}",
        f"{cpu / features:.3f}",
        f"{ALLOWED_FEATURES * wall / features:.0f}",
    )
    return cpu / features


def main() -> int:
    """Run the benchmark; return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=rows_and_columns, default=SHAPE, metavar="ROWSxCOLUMNS")
    shape = parser.parse_args().shape
    options = read_options(["--plots"])  # its other defaults
    console.print(machine(options.peer))
    table = Table("program", "features", WITHOUT, WITH, "wall s each", "CPU s each", "200 take s")
    each = {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), commands(options), keep=True)
        prepare(bench.folder, shape, [METHOD])
        text = (bench.folder / f"{METHOD}.yaml").read_text()
        pages = text.replace("maxplots: 0", "maxplots: -1")
        (bench.folder / f"{JOBS[WITH]}.yaml").write_text(pages)
        for program in [US, PEER] if options.peer else [US]:
            results = {name: bench.run_once(program, job, 1) for name, job in JOBS.items()}
            failed = [result.note for result in results.values() if result.cost is None]
            if failed:
                console.print(f"{program} failed: {failed}")
                return 1
            features = features_in(bench.folder / f"{program}_{JOBS[WITH]}_1")
            each[program] = report(program, results, features, table)
    console.print(table)
    if PEER in each:
        console.print(f"CPU of a feature, {PEER} / {US}: {each[PEER] / each[US]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
