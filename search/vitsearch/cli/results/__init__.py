"""What the commands print that read a finished or running study: tables and lines, from plain values."""
