"""Targets of the links on tasks: a new signed URL, a small file, or a page that says why there is none."""
