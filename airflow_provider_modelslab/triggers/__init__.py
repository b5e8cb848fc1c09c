"""Waiting in the triggerer: thin over the polling decisions and the asynchronous client. A trigger only reads."""
