"""TaskFlow: functions that return requests."""
