"""A clip of any length as a small batch of paid jobs, whose results are joined to one."""
