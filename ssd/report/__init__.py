"""HTML and SVG: the frame, tables and charts of every page, light and dark."""
