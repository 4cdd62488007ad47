"""Widgets of the dashboard that know no delivery: trees and long documents, drawn line by line."""
