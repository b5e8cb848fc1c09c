"""The durable queue, its scheduler and its bills."""
