"""What monitor.py keeps and tells."""
