"""Budgets: caps on jobs and cost that hold across tasks, Dags, retries and kills."""
