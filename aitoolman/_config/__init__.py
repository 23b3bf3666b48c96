"""Configuration: both TOML files read, checked as a whole, and turned into values."""
