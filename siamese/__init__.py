"""What the scripts at the root are made of, package by package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder of the scripts
