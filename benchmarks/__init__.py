"""Scripts that measure crdetect beside the peer."""
