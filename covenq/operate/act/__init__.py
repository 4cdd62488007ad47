"""Acting on what is stored: a plan first (what would be done, what not and why), then its application."""
