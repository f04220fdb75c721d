"""The work of each notebook, one module a stage."""
