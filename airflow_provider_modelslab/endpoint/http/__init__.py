"""The HTTP side of the served endpoint: routes, responses, long polling."""
