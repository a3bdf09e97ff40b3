"""The live databases: the only room that touches them."""
