"""Each performance claim of the README as a command."""
