"""Airflow plugins: the gallery, the targets of task links, and the receiver of the endpoint's webhooks."""
