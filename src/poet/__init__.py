"""POET (arXiv 2506.09457) as a reproducible workflow."""
