"""Faults on demand, for tests and load runs."""
