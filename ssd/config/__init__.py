"""The configuration: where its files are, its schema and resolvers, composing and validating it."""

from ssd.config.compose import compose

__all__ = ["compose"]
