"""What every blocking HTTP call to another host keeps to: no stored credentials, no redirects, limits on its time."""
