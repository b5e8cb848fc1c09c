"""Reports the inputs and outputs of a task to OpenLineage and to Airflow's assets."""
