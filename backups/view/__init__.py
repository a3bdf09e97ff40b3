"""How it reads on a page, a terminal and as JSON; pure."""
