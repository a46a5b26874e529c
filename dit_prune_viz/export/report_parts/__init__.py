"""What a report is made of: its content, and the page that shows it."""
