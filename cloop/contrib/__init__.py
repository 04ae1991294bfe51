"""What joins cloop to other libraries. Each module needs its library: pip install cloop-asyncio[NAME]."""
