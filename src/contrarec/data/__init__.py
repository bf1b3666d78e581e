"""Interactions, data sets with their protocol, readers, splits, synthetic worlds, checks."""
