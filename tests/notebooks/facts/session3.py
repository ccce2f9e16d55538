"""Numbers in session 3 that no run of ours gave, word for word, and where they come from."""

FACTS = {}
