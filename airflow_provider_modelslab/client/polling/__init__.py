"""Polling of many jobs from one event loop."""
