"""What a restore of an older point does not take back."""
