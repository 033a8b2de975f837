"""What this system is compared with, one file per peer, each set up as its own guide advises."""
