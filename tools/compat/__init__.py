"""The package beside other versions of Airflow than the one it is developed with."""
