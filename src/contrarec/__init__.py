"""Contrastive collaborative filtering that holds up when popularity or exposure shifts."""
