"""Bytes on the wire: a requests client and an aiohttp client, both thin over the contract in ``api``."""
