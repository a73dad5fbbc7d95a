"""The small widgets of the live dashboard: pure display of plain numbers, without torch and without the engine's events."""
