"""The outcome of each clip: batch report, progress, checkpoint and index."""
