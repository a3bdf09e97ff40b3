"""The engines that may hold the bot's data: SQLite files, or one PostgreSQL for several hosts."""
