"""Families of models; each says what it takes, loads and runs."""
