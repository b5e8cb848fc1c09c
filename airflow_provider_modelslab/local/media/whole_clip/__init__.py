"""A clip of any length: cut into overlapping segments, joined again, with its sound."""
