"""What a task instance may expose: decided from its Dag and its records in S3, never from XCom."""
