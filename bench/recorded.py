"""Where the benches find recorded measurements, which are not part of the project."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_RECORDED = Path(__file__).parents[2] / "shared" / "data"


def parser_of(description: str | None, *, runs: int | None = None) -> argparse.ArgumentParser:
    """A parser of the arguments that benches on recorded measurements share.

    Args:
        description: the docstring of the bench, whose first line it shows.
        runs: how often it measures unless told otherwise; None where it does so once.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--recorded", type=Path, default=_RECORDED, help="folder of recorded measurements")
    if runs is not None:
        parser.add_argument("--runs", type=int, default=runs)
    return parser


def folder_of(arguments: argparse.Namespace, *parts: str) -> Path:
    """A folder of the recorded measurements; ends the bench where it is missing."""
    folder: Path = arguments.recorded.joinpath(*parts)
    if not folder.is_dir():
        sys.exit(f"no recorded measurements at {folder}; name their folder with --recorded")
    return folder
