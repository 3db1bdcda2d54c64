"""Choice of the next token: the most likely one, or a draw that depends on seed, request and position alone."""
