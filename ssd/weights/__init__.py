"""Published weights by name: fetched into a cache, read in their publisher's format, mapped onto the networks here."""
