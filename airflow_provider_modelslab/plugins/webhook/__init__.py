"""The endpoint's webhooks, received at Airflow's API server."""
