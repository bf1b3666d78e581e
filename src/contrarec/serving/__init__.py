"""After training: recommendations for everyone, indices and exports."""
