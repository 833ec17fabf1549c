from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hatch_build import CRATE, build

ROOT = Path(__file__).parents[1]


def copy_of_the_crate(folder: Path) -> Path:
    """A checkout that holds nothing but the crate, and a library that somebody built long ago."""
    shutil.copytree(ROOT / CRATE, folder / CRATE, ignore=shutil.ignore_patterns("*.so", "*.dylib", "*.dll"))
    (folder / CRATE / "libordinary.so").write_bytes(b"old")
    return folder


def test_without_cargo_the_build_says_so_and_leaves_no_old_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of_the_crate(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    trouble = build(root)
    assert trouble is not None
    assert "no cargo" in trouble
    assert not (root / CRATE / "libordinary.so").exists()


@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_sources_that_do_not_compile_are_one_line_and_leave_no_old_library(tmp_path: Path) -> None:
    root = copy_of_the_crate(tmp_path)
    (root / CRATE / "src" / "json.rs").write_text("this is no Rust", encoding="utf-8")
    trouble = build(root)
    assert trouble is not None
    assert trouble.startswith("cargo failed")
    assert "\n" not in trouble
    assert not (root / CRATE / "libordinary.so").exists()


def test_the_lock_names_no_registry() -> None:
    assert "source" not in (ROOT / CRATE / "Cargo.lock").read_text(encoding="utf-8")
