"""One file per command, or for a few that are alike. A module is imported when its command is run (`cli.app`)."""
