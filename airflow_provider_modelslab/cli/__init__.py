"""Commands for people at a terminal: ``airflow modelslab ...``, or ``python -m airflow_provider_modelslab.cli ...``."""
