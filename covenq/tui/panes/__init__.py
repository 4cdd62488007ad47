"""The pages of the dashboard: lists, one delivery whole, the Overview, the Journal page."""
