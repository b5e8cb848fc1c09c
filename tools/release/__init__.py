"""What a release is made with, and how it is looked at before it is published."""
