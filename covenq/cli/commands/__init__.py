"""One file a verb of the command line, or a few that are told alike. Loaded when the verb is called (`cli.app`)."""
