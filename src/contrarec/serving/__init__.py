"""Recommendations for other programs: a server over HTTP."""
