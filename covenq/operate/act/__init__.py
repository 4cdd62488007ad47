"""Operations on stored deliveries and tasks: each is a plan (what would be done, what not and why) and its application."""
