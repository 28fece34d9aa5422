"""What exists and what is legal: plain data and pure functions, on the standard library alone."""
