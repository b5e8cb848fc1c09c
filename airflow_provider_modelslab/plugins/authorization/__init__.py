"""Decides what a task instance may expose, from its Dag and its records in S3, never from XCom."""
