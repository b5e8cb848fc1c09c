"""Where finished clips go: the endpoint's own storage, or the bucket of ``update_s3``."""
