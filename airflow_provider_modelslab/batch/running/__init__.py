"""The window of jobs in flight, and what stops it."""
