"""What every part of the bot needs: settings, errors, clock, logs, its own state, its stores."""
