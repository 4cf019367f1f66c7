"""How much results depend on the constants that were chosen by hand."""
