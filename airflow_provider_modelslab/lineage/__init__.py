"""What a task read and made, told to OpenLineage and to Airflow's assets."""
