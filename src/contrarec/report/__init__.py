"""Reports: one HTML file that opens from disk, with charts, tables and how to do it again."""
