"""What the scripted server knows of each vendor: what it refuses, what its answers look like."""
