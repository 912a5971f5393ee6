"""What a machine does faster with code made for it: C for the CPU, compiled on first use."""
