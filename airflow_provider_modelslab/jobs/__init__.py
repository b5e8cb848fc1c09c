"""One paid job, from the request to the stored result. Operators, batch and command line call it; nobody repeats it."""
