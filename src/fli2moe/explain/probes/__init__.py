"""Pair probes: which pairs of players complement each other, and which are backups."""
