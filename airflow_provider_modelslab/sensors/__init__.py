"""Tasks that wait for a job which an earlier task submitted."""
