"""The parts of the dashboard that say things in lines of text."""
