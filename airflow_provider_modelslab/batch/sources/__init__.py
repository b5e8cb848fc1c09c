"""Which clips a batch takes: below an S3 prefix, in a list, or in an input manifest."""
