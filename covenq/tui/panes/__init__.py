"""The pages of the dashboard (lists, Overview, Journal) and the header above them."""
