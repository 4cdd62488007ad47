"""Layers over the pages: dialogs, menus, help, and whatever takes long."""
