"""contrarec within other frameworks. Nothing here is imported unless it is asked for by name."""
