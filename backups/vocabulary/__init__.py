"""Pure records and tables that several rooms share, beside those of the model."""
