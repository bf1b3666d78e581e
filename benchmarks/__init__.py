"""Benchmarks: one file each, all checked for correctness before they are timed."""
