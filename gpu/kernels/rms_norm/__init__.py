"""Root-mean-square normalisation of rows, with the residual added before."""
