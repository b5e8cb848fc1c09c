"""S3: where inputs come from and results land. Works on a boto3 client that it is given; knows no Airflow."""
