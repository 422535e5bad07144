"""`barkery status` and `barkery verify`: read an output folder; they start nothing and change nothing."""

import typer

from pipeline.cli import exit_codes
from pipeline.cli.options import Output, Storage, open_store
from pipeline.log import log


def status(output: Output, storage: Storage = None) -> None:
    """Progress of a run, while it works or after it stopped, from its plan and commits alone."""
    from pipeline.shards import verify as shards

    store = open_store(output, storage)
    found = shards.status(store)
    print("\n".join(found.lines))
    for kind, count in shards.failure_kinds(store, found).most_common():
        print(f"         {count:,} failed: {kind}")


def verify(output: Output, storage: Storage = None) -> None:
    """Check everything that is committed: hashes, counts, ids, every clip. Exit code 1 if something is wrong."""
    from pipeline.shards import verify as shards

    report = shards.verify(open_store(output, storage))
    for problem in report.problems:
        log.error(problem)
    print("\n".join([*report.notes, f"{report.counts}; {report.clips:,} clips decoded"]))
    print(f"{report.missing_shards:,} shards not made yet; {len(report.problems):,} problems")
    if report.problems:
        raise typer.Exit(exit_codes.INCOMPLETE)
