"""``python -m visionclip.report --preset cpu``: write the reports of a run."""

import argparse
from collections.abc import Sequence

from visionclip import runs
from visionclip.report import pages


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the reports of a run; a mistake is one line on standard error and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m visionclip.report", description="Write the HTML reports of a run.")
    parser.add_argument("--preset", required=True, help="the run: a folder of runs/, such as cpu")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--reports", default="reports", help="folder of the reports (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        print(runs.relative(pages.build(options.runs, options.reports, options.preset)))
    except (FileNotFoundError, ValueError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
