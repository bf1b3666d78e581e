"""After training: recommendations for everyone, indices and exports, a server over HTTP."""
