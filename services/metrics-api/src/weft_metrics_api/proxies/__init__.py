"""What is asked of the proxies themselves, over their tap port."""
