"""Analyses of data and of trained models."""
