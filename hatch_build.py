"""Builds the parser's library (`ingest/ordinary`, Rust) into wheels and editable installs, where there is a Rust toolchain.

Without one, qoetwin installs all the same: `ingest/parse.py` is the whole parser then, and slower. `QOETWIN_LIBRARY=require`
makes that an error, for those who build wheels for others; `QOETWIN_LIBRARY=skip` leaves the library out.

As a program (`python hatch_build.py`) it builds the library for this checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # as a program, outside a build
    BuildHookInterface = object

CRATE = Path("ingest", "ordinary")
LIBRARIES = ("libordinary.so", "libordinary.dylib", "ordinary.dll")


class LibraryHook(BuildHookInterface):  # type: ignore[misc, valid-type]
    """Adds the library to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build it before the wheel's files are collected; `version` is `standard` or `editable`."""
        wanted = os.environ.get("QOETWIN_LIBRARY", "")
        trouble = "QOETWIN_LIBRARY=skip" if wanted == "skip" else build(Path(self.root))
        if trouble is not None:
            if wanted == "require":
                raise RuntimeError(f"the parser's library was not built: {trouble}")
            self.app.display_warning(f"qoetwin parses without its library, and more slowly: {trouble}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"] += [(CRATE / name).as_posix() for name in LIBRARIES]
        build_data["tag"] = f"py3-none-{platform}"  # it needs no interpreter of a certain version
        build_data["pure_python"] = False


def build(root: Path) -> str | None:
    """Build the library and put it beside its Python module; return why that was not possible, or None.

    A library that was there before is gone when it cannot be built: nobody shall use an old one.
    """
    crate = root / CRATE
    for name in LIBRARIES:
        (crate / name).unlink(missing_ok=True)
    cargo = shutil.which("cargo")
    if cargo is None:
        return "there is no cargo (https://rustup.rs installs one)"
    target = root / "build" / "ordinary"
    command = [cargo, "build", "--release", "--locked", "--target-dir", str(target)]
    done = subprocess.run(command, cwd=crate, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"cargo failed: {' '.join(done.stderr.split())[-500:]}"
    built = next(path for name in LIBRARIES if (path := target / "release" / name).is_file())
    waiting = crate / f"{built.name}.new"
    shutil.copy(built, waiting)
    waiting.replace(crate / built.name)  # a process that uses the old one keeps it
    return None


if __name__ == "__main__":
    if (failure := build(Path(__file__).parent)) is not None:
        sys.exit(failure)
