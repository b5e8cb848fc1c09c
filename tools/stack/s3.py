"""The S3 server of :mod:`airflow_provider_modelslab.testing`."""

from airflow_provider_modelslab.testing.s3 import S3Server

__all__ = ["S3Server"]
