"""Real services for tests and the demo, each in a process of its own."""
