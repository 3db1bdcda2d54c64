"""Twice the examples of `ci` for the laws that the library rests on: the contract of policies, and the sandwich."""

from hypothesis import settings

EXAMPLES = settings().max_examples
thorough = settings(max_examples=max(200, EXAMPLES) if EXAMPLES >= 100 else EXAMPLES)
