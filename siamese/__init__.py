"""What the scripts at the root are made of, room by room."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder of the scripts
