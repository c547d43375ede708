"""WHO WATCHES: the Textual dashboard. The only package that may import textual."""
