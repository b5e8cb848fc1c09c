"""Clips: fetched, decoded to frames, encoded again."""
