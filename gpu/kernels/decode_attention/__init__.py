"""Attention of one new token per sequence over the paged KV cache, the context split over programs."""
