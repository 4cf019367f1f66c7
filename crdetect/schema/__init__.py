"""Schema of parameters: kinds of values, blocks of parameters, and texts for people."""
