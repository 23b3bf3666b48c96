"""What the scripted server knows of each vendor: what it refuses, and what its answers look like."""
