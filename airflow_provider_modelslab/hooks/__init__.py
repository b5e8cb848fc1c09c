"""From an Airflow connection to a client and an S3 profile."""
