"""What is wrong with the bot, as problems and warnings of status. Pure."""
