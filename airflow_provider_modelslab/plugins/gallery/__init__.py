"""The gallery: a page, a tab on task instances, and the API behind both."""
