"""What every route needs: authentication, problem documents, headers."""
