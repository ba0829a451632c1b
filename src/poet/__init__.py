"""POET (arXiv 2506.09457) as a reproducible workflow."""

__all__ = ["equal_length", "with_reference"]


def __getattr__(name: str):
    # On first use: `import poet` stays as light as the programs that only read files need it.
    if name in __all__:
        from poet import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
