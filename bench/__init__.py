"""Benchmarks: figures as JSON, each beside a reference measured in the same run."""
