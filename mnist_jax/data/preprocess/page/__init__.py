"""What is on a page: its ink, what was printed, the strokes of the pen, the sheet, and the digits."""
