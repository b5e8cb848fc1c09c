"""Blocking HTTP calls to other hosts: without stored credentials, without redirects, with limits on time and size."""
