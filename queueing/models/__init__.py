"""Models of the serving system, one per file: iteration times, optimal tiling, and what follows from them."""
