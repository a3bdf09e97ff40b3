"""Where objects are kept: Spaces or a folder, behind one port."""
