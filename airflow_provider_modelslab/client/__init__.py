"""HTTP clients of the endpoint: a blocking one on requests, and one on aiohttp that only polls."""
