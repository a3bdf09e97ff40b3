"""What every platform of merchants needs: inbox, polling, documents, logins."""
