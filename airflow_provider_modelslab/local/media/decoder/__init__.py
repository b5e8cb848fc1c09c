"""Decoding of clips that nobody vouches for, in a process of its own with limits."""
