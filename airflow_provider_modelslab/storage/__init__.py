"""S3: input clips and landed results. Uses the boto3 client of its caller; independent of Airflow."""
