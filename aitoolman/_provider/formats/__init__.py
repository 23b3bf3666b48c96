"""One vendor format per file; quirks of vendors that share a format are data, in `dialects`."""
