"""The processor that every machine has."""
