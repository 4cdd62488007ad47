"""Screens over the pages: one delivery and what belongs to it, dialogs, menus, help, and long operations with progress."""
