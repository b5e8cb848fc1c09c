"""The threads that run jobs, one for each device."""
