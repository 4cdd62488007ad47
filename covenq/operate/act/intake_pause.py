"""What a pause of the intake costs, in the words that whoever pauses it reads first, and how it ends."""

COST = (
    "While the intake is paused every delivery is refused with 503, and GitHub does not send it again by itself: what comes "
    "meanwhile is lost, unless it is redelivered from GitHub, which keeps it for three days."
)
INSTEAD = "Pausing the worker, or a part of its work, accepts deliveries and holds their tasks."
END = "`covenq resume intake` ends it."
