"""Clips and hosts that mean harm, made from a seed, and how reading them is watched."""
