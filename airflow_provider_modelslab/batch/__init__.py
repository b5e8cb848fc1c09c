"""Many clips as one piece of work: found, planned, skipped where they have landed, counted. Runs nothing itself."""
