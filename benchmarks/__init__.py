"""What cloop costs beside other asyncio event loops; see README.md here."""
