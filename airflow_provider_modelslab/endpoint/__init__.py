"""The endpoint served from your own machine: its HTTP contract and a durable queue over the local engine.

Start it with ``python -m airflow_provider_modelslab.endpoint --state-dir DIR``, and give a client its address as base.

What the vendor does not document is decided here and said where it is decided: how long a submit is held
(:class:`.settings.Settings`), what ``base64`` means for a video (:mod:`.publish`), the answers of ``update_s3`` and
``reset_s3`` and the forms of their ``endpoint_url`` and ``public_url`` (:mod:`.s3_details`), ``output_type`` when none
is given (mp4), and what a held submit of a job that fails answers (:func:`.responses.failed`).

For tests of clients it can be told to go wrong, by plan or request by request (:mod:`.kinds` has the list), and
to count what was accepted and would be paid (:mod:`.admin`); for development and load tests, to answer without
generating (:mod:`.echo`). All three are off unless they are switched on.
"""
