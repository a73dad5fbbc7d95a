"""Reports: what runs came to, for people who were not there and have no mmkd."""
