"""Rotary position embedding of queries and keys, and the write of keys and values into the KV cache."""
