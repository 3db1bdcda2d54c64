"""Matrix product of activations and a weight, in tiles whose sizes are given, not tuned."""
