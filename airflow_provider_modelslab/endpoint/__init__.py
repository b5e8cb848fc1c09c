"""The endpoint served from your own machine: its HTTP contract and a durable queue over the local engine."""
