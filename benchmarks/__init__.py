"""Measurements of the product; each prints the table that docs/benchmarks.md shows."""
