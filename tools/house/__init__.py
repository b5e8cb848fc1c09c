"""Figures about the structure of the code: call depth, import cycles, size of folders."""
