"""Links on the task: to its clip, its job, its result and its manifest."""
