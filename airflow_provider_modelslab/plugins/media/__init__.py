"""The links on tasks: a fresh signed URL, a small file, or a page that says why there is none."""
