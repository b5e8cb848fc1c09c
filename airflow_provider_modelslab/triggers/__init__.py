"""Triggers: a thin layer over the job poller and the asynchronous client. A trigger only reads."""
