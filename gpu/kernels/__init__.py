"""The operations of a transformer, one folder each: Triton kernel, torch reference, cost, and a page of mathematics."""
