"""The parts of :mod:`benchmarks.faults`."""
