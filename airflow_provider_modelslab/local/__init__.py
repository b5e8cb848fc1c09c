"""The endpoint's work on your own GPU: plain diffusers, no Airflow. torch is imported when it is used."""
