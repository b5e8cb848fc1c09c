"""What shows in the Airflow UI, and what receives the endpoint's webhooks."""
