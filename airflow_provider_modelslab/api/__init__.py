"""The endpoint's contract, pure: requests, answers, polling decisions and errors, without I/O, Airflow or torch."""
