"""Brokers and faults to test against."""
