# needs: scrapy
import asyncio
import os

import page
import scrapy
from scrapy.crawler import CrawlerProcess


class Spider(scrapy.Spider):
    name = "recipe"
    start_urls = [os.environ["URL"]]

    async def parse(self, response):
        await asyncio.sleep(0.001)
        kind = type(asyncio.get_running_loop())
        print(response.css("p::text").get(), "on", kind.__module__ + "." + kind.__qualname__)


if __name__ == "__main__":
    settings = {name: value for name, value in vars(page).items() if name.isupper()}
    process = CrawlerProcess(dict(settings, TELNETCONSOLE_ENABLED=False))
    process.crawl(Spider)
    process.start()
