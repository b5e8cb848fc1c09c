"""Tasks: submit a video-to-video job, land a result, configure the server's S3."""
