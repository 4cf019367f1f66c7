"""How good the masks are: fields and real exposures of known truth, ours and the peer's."""
