"""The terminal: tables, progress, live displays and formats."""
